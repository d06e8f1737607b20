// SPDX-License-Identifier: Apache-2.0
//
// How long a server takes from exec to its first right answer, as a caller sees it who asks from the
// beginning: when the port opens, when it serves, and what the server itself tells of the time between.
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "tests/bench/median.h"
#include "tests/testing/loopback.h"

extern char** environ;

namespace headlight::bench {
namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr std::chrono::microseconds kPause{200};  // between two tries
constexpr std::chrono::seconds kPatience{60};

double MillisecondsSince(Time begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "startup_bench: %s\n", what.c_str());
  std::exit(1);
}

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

bool IsOpen(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  const bool open = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return open;
}

// A pooled vector of 16 tokens.
v1::AttendRequest MakeRequest(const std::string& model) {
  constexpr int kTokens = 16;
  v1::AttendRequest request;
  request.set_model(model);
  request.mutable_token_ids()->set_dtype(v1::DTYPE_I32);
  request.mutable_token_ids()->add_shape(1);
  request.mutable_token_ids()->add_shape(kTokens);
  request.set_pooling(v1::POOLING_MODE_MEAN);
  std::vector<int32_t> ids(kTokens);
  for (int i = 0; i < kTokens; ++i) ids[i] = 100 + i;
  request.add_payloads(ids.data(), ids.size() * sizeof(int32_t));
  return request;
}

struct Times {
  double open_ms = 0;    // the port takes connections
  double answer_ms = 0;  // the first vector is there
  std::string answer;    // its bytes
};

class Server {
 public:
  Server(const std::string& program, const std::vector<std::string>& flags, int port) {
    std::vector<std::string> arguments = {program, "--listen", "127.0.0.1:" + std::to_string(port)};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, program.c_str(), nullptr, nullptr, argv.data(), environ) != 0) {
      Die("cannot start " + program);
    }
  }
  ~Server() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  bool HasEnded() const { return waitpid(pid_, nullptr, WNOHANG) != 0; }

 private:
  pid_t pid_ = -1;
};

Times Measure(const std::string& program, const std::vector<std::string>& flags,
              const v1::AttendRequest& request) {
  const int port = testing::FreePort();
  Times times;
  const Time begin = std::chrono::steady_clock::now();
  const Server server(program, flags, port);
  while (!IsOpen(port)) {
    if (MillisecondsSince(begin) > 1e3 * kPatience.count() || server.HasEnded())
      Die("the port does not open");
    std::this_thread::sleep_for(kPause);
  }
  times.open_ms = MillisecondsSince(begin);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  const auto stub = v1::AttentionService::NewStub(grpc::CreateCustomChannel(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
  while (true) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    v1::AttendResponse response;
    const grpc::Status status = stub->Attend(&context, request, &response);
    times.answer_ms = MillisecondsSince(begin);
    if (status.ok()) {
      times.answer = response.payloads(0);
      return times;
    }
    if (times.answer_ms > 1e3 * kPatience.count() || status.error_code() != grpc::UNAVAILABLE) {
      Die("got no answer: " + status.error_message());
    }
    std::this_thread::sleep_for(kPause);
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Starts a server again and again, and measures the time from exec to its first answer.");
  std::string program, model = "encoder";
  int repeats = 10;
  std::vector<std::string> flags;
  app.add_option("--server", program, "Path of headlight-server")->required();
  app.add_option("--model", model, "Model to ask, which takes token ids");
  app.add_option("--repeats", repeats, "Starts");
  app.add_option("flags", flags, "Flags of the server, behind --");
  CLI11_PARSE(app, argc, argv);
  const v1::AttendRequest request = MakeRequest(model);
  std::vector<double> opens, answers;
  std::optional<std::string> answer;
  for (int i = 0; i < repeats; ++i) {
    const Times times = Measure(program, flags, request);
    if (answer && *answer != times.answer) Die("two starts give different vectors");
    answer = times.answer;
    opens.push_back(times.open_ms);
    answers.push_back(times.answer_ms);
  }
  std::printf("port open:    best %6.1f ms, median %6.1f ms\n", *std::min_element(opens.begin(), opens.end()),
              Median(opens));
  std::printf("first vector: best %6.1f ms, median %6.1f ms\n",
              *std::min_element(answers.begin(), answers.end()), Median(answers));
  return 0;
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) { return headlight::bench::Main(argc, argv); }
