// SPDX-License-Identifier: Apache-2.0
//
// headlight-server: reads the options, serves until SIGTERM or SIGINT, finishes what it has accepted and
// exits 0; SIGHUP reads tokens and the log level again. Exit codes: 0 clean, 1 could not serve or had to cut
// requests off, 2 wrong usage. Its other commands are in program_commands.h.
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/program/logging.h"
#include "server/program/options.h"
#include "server/program/program_commands.h"
#include "server/program/reload.h"
#include "server/program/sd_notify.h"
#include "server/program/version.h"
#include "server/server.h"

namespace headlight {
namespace {

// The signals that mean something to the server, blocked in this thread and all it starts: they are waited
// for, so that nothing at all runs inside a signal handler. A reader of our output that goes away is no reason
// to end.
sigset_t BlockSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

int WaitFor(const sigset_t& signals) {
  int signal = 0;
  sigwait(&signals, &signal);
  return signal;
}

// Waits for signals on a thread of its own, from before there is a server: loading models may take longer
// than anybody wants to wait for an end.
class Signals {
 public:
  explicit Signals(const sigset_t& signals) {
    std::thread([this, signals] { Watch(signals); }).detach();
  }

  // From now on there are requests to finish: the first signal no longer ends the process.
  void ServingBegins() {
    const std::lock_guard lock(mutex_);
    serving_ = true;
  }

  // What SIGHUP does from now on, and now if there was one; `reload` is not called any more once Wait has
  // returned.
  void OnHangup(std::function<void()> reload) {
    const std::lock_guard lock(mutex_);
    reload_ = std::move(reload);
    if (std::exchange(hung_up_, false)) reload_();
  }

  // For a signal to stop.
  int Wait() { return first_.get_future().get(); }

 private:
  void Watch(const sigset_t& signals) {
    const int signal = WaitForStop(signals, /*may_reload=*/true);
    {
      const std::lock_guard lock(mutex_);
      if (!serving_) {
        spdlog::info("signal {}: nothing is served yet, exiting at once", signal);
        _exit(0);
      }
    }
    first_.set_value(signal);
    WaitForStop(signals, /*may_reload=*/false);
    spdlog::warn("second signal: exiting at once");
    _exit(1);
  }

  int WaitForStop(const sigset_t& signals, bool may_reload) {
    for (;;) {
      const int signal = WaitFor(signals);
      if (signal != SIGHUP) return signal;
      if (may_reload) HangUp();
    }
  }

  void HangUp() {
    const std::lock_guard lock(mutex_);
    hung_up_ = reload_ == nullptr;
    if (!hung_up_) return reload_();
    spdlog::info("signal {}: nothing is served yet, files are read again when it is", SIGHUP);
  }

  std::promise<int> first_;
  std::mutex mutex_;
  // Guarded by mutex_:
  bool serving_ = false;
  bool hung_up_ = false;  // before there was something to do about it
  std::function<void()> reload_;
};

// How long a model may take to load before the service manager, if there is one, takes the start for failed.
constexpr std::chrono::minutes kLoadTime{5};

int Serve(const CommandLine& command_line, std::vector<std::string> arguments, const ServiceManager& manager,
          const sigset_t& blocked) {
  const ServerOptions& options = command_line.options;
  spdlog::info("headlight-server {}", kVersion);
  for (const std::string& warning : command_line.warnings) spdlog::warn("{}", warning);
  for (const auto& [name, value] : EffectiveValues(options)) spdlog::info("option {} = {}", name, value);

  auto& signals = *new Signals(blocked);  // its thread may outlive main
  std::atomic<bool> serving = false;
  absl::StatusOr<std::unique_ptr<HeadlightServer>> server = HeadlightServer::Start(
      options, /*registry=*/nullptr, /*before_serving=*/[&signals] { signals.ServingBegins(); },
      /*on_loading=*/
      [&manager, &serving](const std::string& model) {
        if (!serving) manager.Status("loading model " + model, kLoadTime);
      });
  if (!server.ok()) {
    spdlog::error("{}", std::string(server.status().message()));
    const bool bad_option =
        absl::IsInvalidArgument(server.status());  // one whose value only now turned out wrong
    return bad_option ? 2 : 1;
  }
  serving = true;
  manager.Ready("serving");
  const std::unique_ptr<Periodic> watchdog = manager.Watch([&server] { return (*server)->Turns(); });
  Reload reload(std::move(arguments), options, (*server)->gate());
  signals.OnHangup([&reload, &manager] {
    manager.Reloading();
    reload.Run();
    manager.Ready("serving");
  });
  spdlog::info("signal {}: shutting down", signals.Wait());
  manager.Stopping("answering what was accepted");

  const absl::Status status = (*server)->Shutdown();
  if (!status.ok()) {
    spdlog::error("{}", std::string(status.message()));
    return 1;
  }
  spdlog::info("every accepted request is answered; bye");
  return 0;
}

int Main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "init-model") return RunInitModel(argc - 1, argv + 1, std::cout, std::cerr);
  if (command == "check-model") return RunCheckModel(argc - 1, argv + 1, std::cout, std::cerr);
  if (command == "hash-token") return RunHashToken(argc - 1, argv + 1, std::cin, std::cout, std::cerr);
  if (command == "probe") return RunProbe(argc - 1, argv + 1, std::cout, std::cerr);
  const sigset_t blocked = BlockSignals();
  const absl::StatusOr<CommandLine> command_line = ParseCommandLine(argc, argv);
  if (!command_line.ok()) {
    std::fprintf(stderr, "headlight-server: %s\nTry --help.\n",
                 std::string(command_line.status().message()).c_str());
    return 2;
  }
  if (!command_line->print.empty()) {
    std::fputs(command_line->print.c_str(), stdout);
    return 0;
  }
  ConfigureLogging(command_line->options.log_level, command_line->options.log_format);
  const ServiceManager manager = ServiceManager::FromEnvironment();  // before there are other threads
  return Serve(*command_line, std::vector<std::string>(argv, argv + argc), manager, blocked);
}

}  // namespace
}  // namespace headlight

int main(int argc, char** argv) { return headlight::Main(argc, argv); }
