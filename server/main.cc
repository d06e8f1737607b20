// SPDX-License-Identifier: Apache-2.0
//
// headlight-server: reads the options, serves until SIGTERM or SIGINT, finishes what it has accepted and
// exits 0. Exit codes: 0 clean, 1 could not serve or had to cut requests off, 2 wrong usage.
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "server/logging.h"
#include "server/options.h"
#include "server/server.h"
#include "server/version.h"

namespace headlight {
namespace {

// The signals that end the server, blocked in this thread and all it starts: they are waited for, so that
// nothing at all runs inside a signal handler.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

int WaitFor(const sigset_t& signals) {
  int signal = 0;
  sigwait(&signals, &signal);
  return signal;
}

int Serve(const ServerOptions& options, const sigset_t& stop_signals) {
  spdlog::info("headlight-server {}", kVersion);
  for (const auto& [name, value] : EffectiveValues(options)) spdlog::info("option {} = {}", name, value);

  absl::StatusOr<std::unique_ptr<HeadlightServer>> server = HeadlightServer::Start(options);
  if (!server.ok()) {
    spdlog::error("{}", std::string(server.status().message()));
    const bool bad_option =
        absl::IsInvalidArgument(server.status());  // one whose value only now turned out wrong
    return bad_option ? 2 : 1;
  }
  spdlog::info("signal {}: shutting down", WaitFor(stop_signals));
  std::thread([stop_signals] {
    WaitFor(stop_signals);
    spdlog::warn("second signal: exiting at once");
    _exit(1);
  }).detach();

  const absl::Status status = (*server)->Shutdown();
  if (!status.ok()) {
    spdlog::error("{}", std::string(status.message()));
    return 1;
  }
  spdlog::info("every accepted request is answered; bye");
  return 0;
}

int Main(int argc, char** argv) {
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
  return Serve(command_line->options, BlockStopSignals());
}

}  // namespace
}  // namespace headlight

int main(int argc, char** argv) { return headlight::Main(argc, argv); }
