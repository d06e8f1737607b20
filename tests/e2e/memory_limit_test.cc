// SPDX-License-Identifier: Apache-2.0
//
// A server's resident set stays below --memory-limit whatever clients send, also those that know nothing of
// this server: they tell no sizes, send large messages all at once and do not read replies.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "tests/e2e/server_process.h"
#include "tests/server/attend_fixtures.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;
using testing::MakeRequest;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLimitBytes = 600 * kMiB;
constexpr int64_t kLargestBytes = 120 * kMiB;  // of a message: of two there is room for, of three not
constexpr char kAttend[] = "/headlight.v1.AttentionService/Attend";
constexpr char kGetModel[] = "/headlight.v1.AttentionService/GetModel";
constexpr char kAttendStream[] = "/headlight.v1.AttentionService/AttendStream";

// All messages of so many bytes share theirs.
grpc::ByteBuffer Message(int64_t bytes) {
  constexpr int64_t kSliceBytes = kMiB;
  static const grpc::Slice* const zeros = new grpc::Slice(std::string(kSliceBytes, '\0'));
  const std::vector<grpc::Slice> slices(static_cast<size_t>(bytes / kSliceBytes), *zeros);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::vector<std::unique_ptr<grpc::GenericStub>> Connect(const std::string& address, int count) {
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  for (int i = 0; i < count; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // connections of their own
    arguments.SetMaxReceiveMessageSize(-1);
    stubs.push_back(std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
  }
  return stubs;
}

class MemoryLimitTest : public ::testing::Test {
 protected:
  MemoryLimitTest()
      : server_({"--models", "demo", "--memory-limit", absl::StrCat(kLimitBytes), "--max-message-bytes",
                 absl::StrCat(kLargestBytes)}) {}

  // "VmHWM", the largest resident set so far, or "VmRSS", the present one.
  int64_t ResidentBytes(const std::string& what) {
    std::ifstream status(absl::StrCat("/proc/", server_.process().pid(), "/status"));
    int64_t kilobytes = 0;
    for (std::string line; std::getline(status, line);) {
      if (!absl::StartsWith(line, what + ":")) continue;
      const std::string number = line.substr(what.size() + 1, line.rfind(' ') - what.size() - 1);
      EXPECT_TRUE(absl::SimpleAtoi(number, &kilobytes)) << line;
    }
    return kilobytes << 10;
  }

  // Unary calls that all begin at once, over 8 connections; how many end with which code.
  std::map<int, int> CallAtOnce(const char* method, const grpc::ByteBuffer& message, int count) {
    const auto stubs = Connect(server_.address(), 8);
    struct Call {
      grpc::ClientContext context;
      grpc::ByteBuffer reply;
    };
    std::vector<Call> calls(count);
    std::mutex mutex;
    std::condition_variable ended;
    std::map<int, int> codes;
    int num_ended = 0;
    for (int i = 0; i < count; ++i) {
      calls[i].context.set_deadline(std::chrono::system_clock::now() + 30s);
      stubs[i % stubs.size()]->UnaryCall(&calls[i].context, method, {}, &message, &calls[i].reply,
                                         [&](const grpc::Status& status) {
                                           const std::lock_guard lock(mutex);
                                           ++codes[status.error_code()];
                                           ++num_ended;
                                           ended.notify_all();
                                         });
    }
    std::unique_lock lock(mutex);
    ended.wait(lock, [&] { return num_ended == count; });
    return codes;
  }

  void ExpectCalm() {
    const int64_t peak_bytes = ResidentBytes("VmHWM");
    std::cout << "resident set: at most " << peak_bytes / kMiB << " MiB, now "
              << ResidentBytes("VmRSS") / kMiB << " MiB\n";
    EXPECT_LE(peak_bytes, kLimitBytes);
    const auto stub = v1::AttentionService::NewStub(
        grpc::CreateChannel(server_.address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 10s);
    v1::AttendResponse response;
    const grpc::Status status = stub->Attend(&context, MakeRequest("demo", {1, 4, 768}), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  ServerProcess server_;
};

TEST_F(MemoryLimitTest, ManyLargeMessagesAtOnce) {
  std::map<int, int> codes = CallAtOnce(kAttend, Message(kLargestBytes - kMiB), 256);
  // No such message makes sense; those that fit are read and found so.
  EXPECT_EQ(codes[grpc::RESOURCE_EXHAUSTED] + codes[grpc::INVALID_ARGUMENT], 256)
      << ::testing::PrintToString(codes);
  ExpectCalm();
}

TEST_F(MemoryLimitTest, ManyLargeMessagesToAMethodThatTakesSmallOnes) {
  std::map<int, int> codes = CallAtOnce(kGetModel, Message(kLargestBytes - kMiB), 64);
  EXPECT_EQ(codes[grpc::RESOURCE_EXHAUSTED], 64) << ::testing::PrintToString(codes);
  ExpectCalm();
}

TEST_F(MemoryLimitTest, AMessageBeyondTheLargest) {
  for (const char* method : {kAttend, kGetModel}) {
    std::map<int, int> codes = CallAtOnce(method, Message(1024 * kMiB), 1);
    EXPECT_EQ(codes[grpc::RESOURCE_EXHAUSTED], 1) << method << ::testing::PrintToString(codes);
    ExpectCalm();
  }
}

// Sends what it is given in a stream, and reads no reply.
class DeafStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  DeafStream(grpc::GenericStub& stub, const grpc::ByteBuffer& message, int count)
      : message_(message), left_(count) {
    stub.PrepareBidiStreamingCall(&context_, kAttendStream, {}, this);
    StartWrite(&message_);
    StartCall();
  }
  void OnWriteDone(bool ok) override {
    if (ok && --left_ > 0) StartWrite(&message_);
  }
  void OnDone(const grpc::Status&) override { done_.set_value(); }
  void Leave() {
    context_.TryCancel();
    done_.get_future().wait();
  }

 private:
  grpc::ClientContext context_;
  const grpc::ByteBuffer message_;
  std::atomic<int> left_;
  std::promise<void> done_;
};

TEST_F(MemoryLimitTest, LargeMessagesInStreams) {
  const auto stubs = Connect(server_.address(), 8);
  std::vector<std::unique_ptr<DeafStream>> streams;
  for (int i = 0; i < 64; ++i) {
    streams.push_back(
        std::make_unique<DeafStream>(*stubs[i % stubs.size()], Message(kLargestBytes - kMiB), 3));
  }
  std::this_thread::sleep_for(2s);
  for (const auto& stream : streams) stream->Leave();
  ExpectCalm();
}

TEST_F(MemoryLimitTest, StreamsWhoseRepliesNobodyReads) {
  const grpc::Slice slice(MakeRequest("demo", {4, 128, 768}).SerializeAsString());
  const auto stubs = Connect(server_.address(), 8);
  std::vector<std::unique_ptr<DeafStream>> streams;
  for (int i = 0; i < 100; ++i) {
    streams.push_back(
        std::make_unique<DeafStream>(*stubs[i % stubs.size()], grpc::ByteBuffer(&slice, 1), 100));
  }
  std::this_thread::sleep_for(3s);
  for (const auto& stream : streams) stream->Leave();
  ExpectCalm();
}

}  // namespace
}  // namespace headlight::e2e
