// SPDX-License-Identifier: Apache-2.0
//
// The service over a real channel, with a computation that fails, waits or answers zeros as a test needs it.
#ifndef HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_
#define HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/attend/attend_face.h"
#include "server/attend/attention_service.h"
#include "server/batch/batch_lane.h"
#include "server/observe/request_log.h"
#include "server/rpc/connection_book.h"
#include "server/rpc/control_methods.h"
#include "server/rpc/exchange_service.h"
#include "server/rpc/listener.h"
#include "server/schedule/scheduler.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/batch/fake_executor.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {

// More than any of this takes; only a broken service waits so long.
inline constexpr std::chrono::seconds kServingPatience{30};

// Keeps what is told of requests.
class RecordKeeper final : public RequestObserver {
 public:
  void RequestEnded(const RequestRecord& record) override {
    const std::lock_guard lock(mutex_);
    records_.push_back(record);
  }
  std::vector<RequestRecord> records() const {
    const std::lock_guard lock(mutex_);
    return records_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<RequestRecord> records_;  // guarded by mutex_
};

// Holds a model "small" of MakeTestModel.
class ServingTest : public ::testing::Test {
 protected:
  explicit ServingTest(int64_t queue_max_requests)
      : scheduler_({.max_batch_tokens = 100, .queue_max_requests = queue_max_requests}, lane_,
                   /*long_runner=*/nullptr, clock_) {
    exchanges_.Add(std::make_unique<AttendFace>(AttendFace::Method::kAttend));
    exchanges_.Add(std::make_unique<AttendFace>(AttendFace::Method::kAttendStream));
    AddControlMethods(service_, exchanges_);
  }

  void SetUp() override {
    ASSERT_THAT(registry_.Add(MakeTestModel("small").loaded), IsOk());
    grpc::ServerBuilder builder;
    auto sockets = OpenListenSockets("127.0.0.1:0");
    ASSERT_THAT(sockets, IsOk());
    port_ = sockets->port;
    const std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor =
        builder.experimental().AddExternalConnectionAcceptor(
            grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
            grpc::InsecureServerCredentials());
    builder.RegisterCallbackGenericService(&exchanges_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    listener_ = std::make_unique<Listener>(*std::move(sockets), connections_, [acceptor](int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.fd = fd;
      acceptor->HandleNewConnection(&connection);
    });
    ASSERT_THAT(listener_->Start(), IsOk());
    exchanges_.ledger().Open();
    channel_ = server_->InProcessChannel({});
    stub_ = v1::AttentionService::NewStub(channel_);
  }

  CallLedger& ledger() { return exchanges_.ledger(); }

  static void WaitUntil(const std::function<bool()>& happens) {
    const auto give_up = std::chrono::steady_clock::now() + kServingPatience;
    while (!happens() && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_TRUE(happens());
  }

  // Until the scheduler has so many that are not answered.
  void WaitForCalls(int64_t calls) {
    WaitUntil([&] { return scheduler_.num_unfinished() == calls; });
    ASSERT_EQ(scheduler_.num_unfinished(), calls);
  }

  void TearDown() override {
    listener_->Stop();
    server_->Shutdown(std::chrono::system_clock::now());
  }

  SteadyClock clock_;
  ModelRegistry registry_;
  MemoryBudget memory_{int64_t{1} << 30};
  RecordKeeper told_;
  RequestLog requests_{RequestLogOptions{}, {&told_}};
  FakeExecutor executor_;
  ComputeArena arena_{1};
  BatchLane lane_{executor_, arena_};
  Scheduler scheduler_;
  Gate gate_;
  AttentionService service_{{registry_, gate_, scheduler_, clock_, /*max_message_bytes=*/1 << 20}};
  ConnectionBook connections_{{.in_all = 100, .per_address = 100}, clock_};
  ExchangeService exchanges_{{.registry = registry_,
                              .gate = gate_,
                              .scheduler = scheduler_,
                              .clock = clock_,
                              .memory = memory_,
                              .requests = requests_,
                              .max_message_bytes = 1 << 20,
                              .compute_threads = 3,
                              .connections = &connections_}};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;
  int port_ = 0;  // for those who want a connection; all others use channel_, which has none
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AttentionService::Stub> stub_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_
