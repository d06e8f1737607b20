// SPDX-License-Identifier: Apache-2.0
//
// Versions of a model come and go under a server that is busy with it: no request fails, each answer names
// the version that gave it and has the bits of that version's lone run, broken versions never serve, and the
// memory is in the end what it was. HEADLIGHT_HOT_SWAPS makes it longer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "client/client.h"
#include "core/checkpoint/folder.h"
#include "core/model/model.h"
#include "core/model/parameters.h"
#include "tests/e2e/process_facts.h"
#include "tests/e2e/server_process.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using e2e::ServerProcess;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;
using namespace std::chrono_literals;

constexpr int64_t kEmbedDim = 64;
constexpr int64_t kTokens = 24;
constexpr int kNumClients = 4;
constexpr auto kTimeout = 60s;

int NumSwaps() {
  const char* text = std::getenv("HEADLIGHT_HOT_SWAPS");
  int swaps = 50;
  return text != nullptr && absl::SimpleAtoi(text, &swaps) ? swaps : 50;
}

ModelConfig TinyConfig(int64_t embed_dim = kEmbedDim) {
  ModelConfig config;
  config.block.attention.embed_dim = embed_dim;
  config.block.attention.num_heads = 4;
  return config.Resolved();
}

std::vector<float> LoneRun(const Model& model, const std::vector<float>& input) {
  const std::vector<int64_t> bounds = {0, kTokens};
  const std::vector<SequenceOptions> sequences(1);
  std::vector<float> output(kTokens * kEmbedDim);
  ModelBatch batch;
  batch.attention.query = {input.data(), kTokens, kEmbedDim, kEmbedDim};
  batch.attention.key = batch.attention.query;
  batch.attention.value = batch.attention.query;
  batch.attention.cu_q_lens = bounds;
  batch.attention.cu_kv_lens = bounds;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.data(), kTokens, kEmbedDim, kEmbedDim};
  ComputeArena arena(1);
  const auto workspace = model.NewWorkspace(arena);
  EXPECT_THAT(model.Forward(batch, arena, *workspace), IsOk());
  return output;
}

class HotSwapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_ / "tiny");
    input_ = testing::RandomFloats(kTokens * kEmbedDim, 7);
  }
  void TearDown() override { fs::remove_all(root_); }

  // Makes a version as an operator should: beside the repository's eyes, then renamed.
  void Put(int version) {
    const ModelConfig config = TinyConfig();
    const ModelParameters weights = RandomModelParameters(config, version);
    const auto model = Model::Create(config, weights);
    ASSERT_THAT(model, IsOk());
    std::vector<float> answer = LoneRun(*model, input_);
    {
      const std::lock_guard lock(mutex_);
      expected_[std::to_string(version)] = std::move(answer);
    }
    Publish(version, weights);
  }

  void Publish(int version, const ModelParameters& weights) {
    ASSERT_THAT(SaveModelFolder((root_ / ".next").string(), TinyConfig(), weights), IsOk());
    fs::rename(root_ / ".next", Folder(version));
  }

  // The same, but cut off.
  void PutBroken(int version) {
    const ModelConfig config = TinyConfig();
    ASSERT_THAT(SaveModelFolder((root_ / ".next").string(), config, RandomModelParameters(config, version)),
                IsOk());
    fs::resize_file(root_ / ".next/model.safetensors", 1000);
    fs::rename(root_ / ".next", Folder(version));
  }

  fs::path Folder(int version) const { return root_ / "tiny" / std::to_string(version); }

  // Asks until `done_`; the first thing that is not as it should be ends up in failure_.
  void RunClient(const std::string& address) {
    const auto client = client::Client::Create(address);
    ASSERT_THAT(client, IsOk());
    client::AttendCall call;
    call.model = "tiny";
    call.query = {{kTokens, kEmbedDim}, input_};
    while (!done_) {
      const auto reply = [&] {
        const std::shared_lock running(pause_);
        return client->Attend(call, kTimeout);
      }();
      const std::lock_guard lock(mutex_);
      if (!reply.ok()) {
        failure_ = reply.status().ToString();
        return;
      }
      const auto expected = expected_.find(reply->model_version);
      if (expected == expected_.end() || reply->output.values != expected->second) {
        failure_ = "version " + reply->model_version + " answered with other numbers than its lone run";
        return;
      }
      ++answered_[reply->model_version];
    }
  }

  // Swaps from `version` - 1 to `version`.
  void Swap(const client::Client& control, int version) {
    Put(version);
    const auto loaded = control.LoadModel("tiny", kTimeout);
    ASSERT_THAT(loaded, IsOk());
    EXPECT_EQ(loaded->version(), std::to_string(version));
    EXPECT_EQ(loaded->load_error(), "");
    fs::remove_all(Folder(version - 1));
  }

  // What the server holds after one more swap, without what requests under way take: these differ from one
  // moment to the next by more than the models of this test weigh.
  int64_t QuietBytesAfterSwap(const client::Client& control, int version, pid_t pid) {
    const std::unique_lock quiet(pause_);
    std::this_thread::sleep_for(100ms);
    Swap(control, version);
    return e2e::ResidentBytes(pid);
  }

  // A thousand swaps show within 5 % that nothing stays. In a short run the allocator's moods are as large as
  // that, so it looks for models that stay: each brings hundreds of compiled products, of a page at least,
  // and forty of them would more than double the process. Under AddressSanitizer freed memory stays on
  // purpose.
  static void ExpectMemoryCameBack([[maybe_unused]] int swaps, [[maybe_unused]] int64_t begin_bytes,
                                   [[maybe_unused]] int64_t end_bytes) {
#ifndef __SANITIZE_ADDRESS__
    const double tolerance = swaps >= 1000 ? 0.05 : 0.25;
    EXPECT_LE(end_bytes, begin_bytes * (1 + tolerance));
    EXPECT_GE(end_bytes, begin_bytes * (1 - tolerance));
#endif
  }

  fs::path root_;
  std::shared_mutex pause_;  // clients share it while they ask
  std::vector<float> input_;
  std::atomic<bool> done_{false};
  std::mutex mutex_;
  std::map<std::string, std::vector<float>> expected_;  // guarded by mutex_; by version
  std::map<std::string, int64_t> answered_;             // guarded by mutex_; by version
  std::string failure_;                                 // guarded by mutex_
};

TEST_F(HotSwapTest, NoRequestFailsNoAnswerIsMixedAndMemoryComesBack) {
  Put(1);
  ServerProcess server({"--model-repository", root_.string(), "--allow-model-control"});
  std::vector<std::thread> clients;
  for (int i = 0; i < kNumClients; ++i) clients.emplace_back([&] { RunClient(server.address()); });
  const auto control = client::Client::Create(server.address());
  ASSERT_THAT(control, IsOk());

  const pid_t pid = server.process().pid();
  const int swaps = NumSwaps();
  const int last = swaps + 1;
  // The allocator keeps now more, now less of what is free: the least of a few samples is what is held.
  constexpr int kSamples = 5;
  int64_t begin_bytes = INT64_MAX;
  int64_t end_bytes = INT64_MAX;
  int broken = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (int version = 2; version <= last && !HasFatalFailure(); ++version) {
    if (version % 10 == 0) {
      PutBroken(version);
      EXPECT_THAT(control->LoadModel("tiny", kTimeout),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.safetensors")));
      EXPECT_EQ(control->GetModel("tiny", "", kTimeout)->version(), std::to_string(version - 1));
      fs::remove_all(Folder(version));
      ++broken;
    }
    // By now every kind of thing has happened once, and gRPC has the threads that it wants.
    if (version == 11) std::this_thread::sleep_for(3s);
    if (version >= 11 && version < 11 + kSamples) {
      begin_bytes = std::min(begin_bytes, QuietBytesAfterSwap(*control, version, pid));
    } else if (version > last - kSamples) {
      end_bytes = std::min(end_bytes, QuietBytesAfterSwap(*control, version, pid));
    } else {
      Swap(*control, version);
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  done_ = true;
  for (std::thread& client : clients) client.join();

  EXPECT_EQ(failure_, "");
  int64_t answered = 0;
  for (const auto& [version, count] : answered_) answered += count;
  EXPECT_GE(answered, swaps);
  EXPECT_GE(answered_.size(), 2u);
  ExpectMemoryCameBack(swaps, begin_bytes, end_bytes);
  EXPECT_THAT(control->GetModel("tiny", "1", kTimeout), StatusIs(absl::StatusCode::kNotFound, ::testing::_));
  std::printf("%d swaps, %d broken versions, %.1f s, %lld answers by %zu versions, %.1f -> %.1f MB\n", swaps,
              broken, seconds.count(), static_cast<long long>(answered), answered_.size(), begin_bytes / 1e6,
              end_bytes / 1e6);
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(30s), 0) << server.process().Output();
}

TEST_F(HotSwapTest, PollingSwapsToo) {
  Put(1);
  ServerProcess server({"--model-repository", root_.string(), "--repository-poll-s", "0.05"});
  const auto client = client::Client::Create(server.address());
  ASSERT_THAT(client, IsOk());
  Put(2);
  std::string version;
  for (int i = 0; i < 600 && version != "2"; ++i) {
    std::this_thread::sleep_for(50ms);
    version = client->GetModel("tiny", "", kTimeout)->version();
  }
  EXPECT_EQ(version, "2");
  fs::remove_all(root_ / "tiny");
  absl::Status status;
  for (int i = 0; i < 600 && status.ok(); ++i) {
    std::this_thread::sleep_for(50ms);
    status = client->GetModel("tiny", "", kTimeout).status();
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, ::testing::_));
}

TEST_F(HotSwapTest, HealthAndListsTellOfModelsThatCannotServe) {
  Put(1);
  PutBroken(2);
  fs::create_directories(root_ / "other/1");
  ServerProcess server({"--model-repository", root_.string(), "--allow-model-control"});
  const auto client = client::Client::Create(server.address());
  ASSERT_THAT(client, IsOk());
  const auto health = [&](const std::string& service) {
    const auto status = client->CheckHealth(service, kTimeout);
    return status.ok() ? grpc::health::v1::HealthCheckResponse::ServingStatus_Name(*status)
                       : status.status().ToString();
  };
  EXPECT_EQ(health(""), "SERVING");
  EXPECT_EQ(health("models/tiny"), "SERVING");
  EXPECT_EQ(health("models/tiny/2"), "NOT_SERVING");
  EXPECT_EQ(health("models/other"), "NOT_SERVING");
  const auto models = client->ListModels(kTimeout);
  ASSERT_THAT(models, IsOk());
  ASSERT_EQ(models->models_size(), 2);
  EXPECT_EQ(models->models(0).version(), "1");
  EXPECT_THAT(models->models(0).load_error(), HasSubstr("version 2: "));
  EXPECT_EQ(models->models(1).name(), "other");
  EXPECT_THAT(models->models(1).load_error(), HasSubstr("config.json"));
  client::AttendCall call;
  call.model = "other";
  call.query = {{kTokens, kEmbedDim}, input_};
  EXPECT_THAT(client->Attend(call, kTimeout),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("could not be loaded")));

  EXPECT_THAT(client->UnloadModel("tiny", kTimeout), IsOk());
  EXPECT_EQ(health("models/tiny"), "NOT_SERVING");
  call.model = "tiny";
  EXPECT_THAT(client->Attend(call, kTimeout), StatusIs(absl::StatusCode::kNotFound, ::testing::_));
}

TEST_F(HotSwapTest, AVersionWhoseOutputsAreNotFiniteNeverServes) {
  Put(1);
  ServerProcess server({"--model-repository", root_.string(), "--allow-model-control"});
  const auto client = client::Client::Create(server.address());
  ASSERT_THAT(client, IsOk());
  ModelParameters overflowing = RandomModelParameters(TinyConfig(), 2);
  overflowing.layers[0].attention.bo.assign(kEmbedDim, std::numeric_limits<float>::max());
  for (float& weight : overflowing.layers[0].attention.wo) weight *= 1e38f;
  Publish(2, overflowing);
  EXPECT_THAT(client->LoadModel("tiny", kTimeout),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
  EXPECT_EQ(client->GetModel("tiny", "", kTimeout)->version(), "1");
}

TEST_F(HotSwapTest, ModelControlIsOffUnlessAllowed) {
  Put(1);
  ServerProcess server({"--model-repository", root_.string()});
  const auto client = client::Client::Create(server.address());
  ASSERT_THAT(client, IsOk());
  const auto denied = StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--allow-model-control"));
  EXPECT_THAT(client->LoadModel("tiny", kTimeout), denied);
  EXPECT_THAT(client->UnloadModel("tiny", kTimeout), denied);
  EXPECT_THAT(client->GetModel("tiny", "", kTimeout), IsOk());
}

TEST_F(HotSwapTest, AModelThatDoesNotFitIsRefusedWithBothNumbers) {
  Put(1);
  // Half of it is the process's own reserve, and of the rest a quarter is left to requests.
  ServerProcess server({"--model-repository", root_.string(), "--memory-limit", "1000"});
  const auto client = client::Client::Create(server.address());
  ASSERT_THAT(client, IsOk());
  EXPECT_THAT(client->GetModel("tiny", "", kTimeout)->load_error(), HasSubstr("of the 375 bytes for models"));
}

TEST_F(HotSwapTest, ASigtermWhileAModelLoadsEndsTheServerCleanly) {
  Put(1);
  const ModelConfig large = TinyConfig(2048);
  ASSERT_THAT(SaveModelFolder((root_ / ".next").string(), large, RandomModelParameters(large, 1)), IsOk());
  ServerProcess server({"--model-repository", root_.string(), "--allow-model-control"});
  fs::rename(root_ / ".next", root_ / "large");
  absl::Status status;
  std::thread loads([&] {
    const auto client = client::Client::Create(server.address());
    status = client->LoadModel("large", kTimeout).status();
  });
  std::this_thread::sleep_for(20ms);
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(30s), 0) << server.process().Output();
  loads.join();
  EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
}

}  // namespace
}  // namespace headlight
