// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/echo_server.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace headlight::bench {
namespace {

constexpr int kCallsWaiting = 256;  // for each thread

// One call after the other: wait for it, read its message, send that back.
class EchoCall {
 public:
  EchoCall(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& queue)
      : service_(service), queue_(queue) {
    Wait();
  }

  void Advance(bool ok) {
    switch (state_) {
      case State::kWaiting:
        if (!ok) return;  // the server shuts down
        state_ = State::kReading;
        return stream_->Read(&message_, this);
      case State::kReading:
        state_ = State::kWriting;
        return ok ? stream_->WriteAndFinish(message_, grpc::WriteOptions(), grpc::Status::OK, this)
                  : stream_->Finish(grpc::Status::CANCELLED, this);
      case State::kWriting:
        return Wait();
    }
  }

 private:
  enum class State { kWaiting, kReading, kWriting };

  void Wait() {
    state_ = State::kWaiting;
    context_ = std::make_unique<grpc::GenericServerContext>();
    stream_ = std::make_unique<grpc::GenericServerAsyncReaderWriter>(context_.get());
    service_.RequestCall(context_.get(), stream_.get(), &queue_, &queue_, this);
  }

  grpc::AsyncGenericService& service_;
  grpc::ServerCompletionQueue& queue_;
  State state_ = State::kWaiting;
  std::unique_ptr<grpc::GenericServerContext> context_;
  std::unique_ptr<grpc::GenericServerAsyncReaderWriter> stream_;
  grpc::ByteBuffer message_;
};

// Never returns.
void Serve(const EchoOptions& options, int port_pipe) {
  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterAsyncGenericService(&service);
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  for (int i = 0; i < options.threads; ++i) queues.push_back(builder.AddCompletionQueue());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::deque<EchoCall> calls;
  std::vector<std::jthread> threads;
  for (const auto& queue : queues) {
    for (int i = 0; i < kCallsWaiting; ++i) calls.emplace_back(service, *queue);
    threads.emplace_back([&queue] {
      void* tag = nullptr;
      bool ok = false;
      while (queue->Next(&tag, &ok)) static_cast<EchoCall*>(tag)->Advance(ok);
    });
  }
  if (write(port_pipe, &port, sizeof(port)) != sizeof(port)) _exit(1);
  threads.clear();  // waits for them; they serve until the process is killed
  _exit(0);
}

}  // namespace

EchoProcess::EchoProcess(const EchoOptions& options) {
  int ends[2];
  if (pipe(ends) != 0) return;
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // it has nothing to outlive the benchmark for
    close(ends[0]);
    if (options.cpu) PinToCpu(*options.cpu);
    Serve(options, ends[1]);
  }
  close(ends[1]);
  if (read(ends[0], &port_, sizeof(port_)) != sizeof(port_)) port_ = 0;
  close(ends[0]);
}

EchoProcess::~EchoProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool PinToCpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
}

}  // namespace headlight::bench
