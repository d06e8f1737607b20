// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/echo_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <numeric>
#include <optional>
#include <thread>

#include "client/client.h"
#include "client/wire/wire.h"

namespace headlight::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Call {
  std::optional<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
  grpc::ByteBuffer reply;
  grpc::Status status;
  grpc::GenericStub* stub = nullptr;
};

// Keeps `concurrency` calls in flight over `channels` until `end`; how many were answered since `begin`.
int64_t CountReplies(const std::vector<std::shared_ptr<grpc::Channel>>& channels, int concurrency,
                     const grpc::ByteBuffer& request, Clock::time_point begin, Clock::time_point end) {
  grpc::CompletionQueue queue;
  std::deque<grpc::GenericStub> stubs;
  for (const auto& channel : channels) stubs.emplace_back(channel);
  const std::string method = client::kAttendMethod;
  const auto send = [&](Call& call) {
    call.reader.reset();
    call.context.emplace();
    call.reply.Clear();
    call.reader = call.stub->PrepareUnaryCall(&*call.context, method, request, &queue);
    call.reader->StartCall();
    call.reader->Finish(&call.reply, &call.status, &call);
  };
  std::deque<Call> calls(static_cast<size_t>(concurrency));
  for (size_t i = 0; i < calls.size(); ++i) {
    calls[i].stub = &stubs[i % stubs.size()];
    send(calls[i]);
  }
  int64_t replies = 0;
  size_t busy = calls.size();
  void* tag = nullptr;
  bool ok = false;
  while (busy > 0 && queue.Next(&tag, &ok)) {
    Call& call = *static_cast<Call*>(tag);
    const Clock::time_point now = Clock::now();
    if (now >= end) {
      --busy;
      continue;
    }
    replies += now >= begin && call.status.ok();
    send(call);
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return replies;
}

}  // namespace

std::vector<std::shared_ptr<grpc::Channel>> OpenChannels(const std::string& target, int count) {
  return client::Client::Create(target, {.connection = client::Connection::kOwn, .num_channels = count})
      ->channels();
}

Speed MeasureEcho(const EchoLoad& load) {
  const auto channels = OpenChannels(load.target, load.channels);
  const int num_threads = std::min({load.threads, load.channels, load.concurrency});
  const auto share = [&](int whole, int thread) {
    return whole / num_threads + (thread < whole % num_threads ? 1 : 0);
  };
  const Clock::time_point begin = Clock::now() + std::chrono::milliseconds(500),
                          end = begin + std::chrono::seconds(load.seconds);
  std::vector<int64_t> replies(static_cast<size_t>(num_threads));
  std::vector<std::jthread> threads;
  auto next = channels.begin();
  for (int i = 0; i < num_threads; ++i) {
    const auto first = next;
    next += share(load.channels, i);
    threads.emplace_back([&load, &replies, i, begin, end, own = std::vector(first, next),
                          concurrency = share(load.concurrency, i)] {
      replies[static_cast<size_t>(i)] = CountReplies(own, concurrency, load.request, begin, end);
    });
  }
  std::this_thread::sleep_until(begin);
  const double cpu_begin = CpuSeconds();
  std::this_thread::sleep_until(end);
  const double cpu_s = CpuSeconds() - cpu_begin;
  threads.clear();  // waits for them
  const auto total = static_cast<double>(std::accumulate(replies.begin(), replies.end(), int64_t{0}));
  return {.per_s = total / load.seconds, .per_cpu_s = cpu_s > 0 ? total / cpu_s : 0};
}

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

}  // namespace headlight::bench
