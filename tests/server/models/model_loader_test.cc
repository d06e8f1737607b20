// SPDX-License-Identifier: Apache-2.0
//
// Against a real folder of small files and a fake that makes models of them: the text of config.json is "ok",
// or the reason why it is not.
#include "server/models/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/observe/metrics.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;
using namespace std::chrono_literals;

class ModelLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    metrics_ = std::make_unique<Metrics>(/*compute_threads=*/1);
  }
  void TearDown() override {
    loader_.reset();
    fs::remove_all(root_);
  }

  // As an operator should: prepared beside, then renamed.
  void Put(const std::string& path, const std::string& config = "ok") {
    const fs::path folder = root_ / path;
    fs::create_directories(folder.parent_path());
    fs::remove_all(root_ / ".next");
    fs::create_directories(root_ / ".next");
    std::ofstream(root_ / ".next/config.json") << config;
    fs::remove_all(folder);
    fs::rename(root_ / ".next", folder);
  }
  void Remove(const std::string& path) { fs::remove_all(root_ / path); }

  void Begin(ModelLoaderOptions options = {}) {
    options.repository = root_.string();
    loader_ = std::make_unique<ModelLoader>(
        options, registry_, *metrics_, [this](const ModelSource& source, const CancellationToken& cancelled) {
          return Make(source, cancelled);
        });
    ASSERT_THAT(loader_->LoadAll(), IsOk());
    loader_->Start([this](const std::string& service, bool serving) {
      const std::lock_guard lock(mutex_);
      health_[service] = serving;
    });
  }

  absl::StatusOr<std::shared_ptr<const LoadedModel>> Make(const ModelSource& source,
                                                          const CancellationToken& cancelled) {
    std::ifstream file(source.version.folder + "/config.json");
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    {
      const std::lock_guard lock(mutex_);
      tried_.push_back(source.name + "/" + source.version.version);
      held_bytes_ = source.held_bytes;
    }
    if (text == "slow") {
      while (!cancelled.IsCancelled()) std::this_thread::sleep_for(1ms);
      return absl::CancelledError("abandoned");
    }
    if (text == "hangs") {
      hang_.get_future().wait();
      hang_is_over_ = true;
      return absl::CancelledError("abandoned");
    }
    if (text == "in folder") {
      return absl::InvalidArgumentError(source.version.folder + "/config.json: bad \xFF");
    }
    if (text == "huge" && source.held_bytes > 0) return absl::ResourceExhaustedError("does not fit");
    if (text == "throws") throw std::bad_alloc();
    if (text != "ok" && text != "huge") return absl::InvalidArgumentError(text);
    return testing::MakeTestModel(source.name, testing::SmallConfig(), source.version.version).loaded;
  }

  absl::Status Load(const std::string& name) {
    std::promise<absl::Status> done;
    loader_->Load(name, [&done](absl::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }
  absl::Status Unload(const std::string& name) {
    std::promise<absl::Status> done;
    loader_->Unload(name, [&done](absl::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }

  std::vector<std::string> Served() {
    std::vector<std::string> served;
    for (const auto& model : registry_.List()) served.push_back(model->name + "/" + model->version);
    return served;
  }
  std::vector<std::string> Tried() {
    const std::lock_guard lock(mutex_);
    return std::exchange(tried_, {});
  }
  std::map<std::string, bool> Health() {
    const std::lock_guard lock(mutex_);
    return health_;
  }
  std::string LoadError(const std::string& name) {
    const auto errors = registry_.LoadErrors();
    return errors.contains(name) ? errors.at(name) : "";
  }
  // Waits for what polling brings about.
  static bool Eventually(const std::function<bool()>& holds) {
    for (int i = 0; i < 5000; ++i) {
      if (holds()) return true;
      std::this_thread::sleep_for(2ms);
    }
    return false;
  }

  fs::path root_;
  ModelRegistry registry_;
  std::unique_ptr<Metrics> metrics_;
  std::promise<void> hang_;
  std::atomic<bool> hang_is_over_ = false;
  std::mutex mutex_;
  std::vector<std::string> tried_;       // guarded by mutex_
  std::map<std::string, bool> health_;   // guarded by mutex_
  int64_t held_bytes_ = 0;               // guarded by mutex_
  std::unique_ptr<ModelLoader> loader_;  // uses the above
};

constexpr double kFastPoll = 0.005;

TEST_F(ModelLoaderTest, LoadsOfEachModelTheNewestVersionOnly) {
  Put("a/1");
  Put("a/10");
  Put("a/9");
  Put("b");
  Begin();
  EXPECT_THAT(Served(), ElementsAre("a/10", "b/1"));
  EXPECT_THAT(Tried(), ElementsAre("a/10", "b/1"));
  EXPECT_EQ(Health(), (std::map<std::string, bool>{{"models/a", true}, {"models/b", true}}));
  EXPECT_THAT(registry_.Find("a", "9"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no version \"9\"; there is 10")));
}

TEST_F(ModelLoaderTest, LoadsOnlyWhatIsNamed) {
  Put("a");
  Put("b");
  Begin({.load = {"b", "c"}});
  EXPECT_THAT(Served(), ElementsAre("b/1"));
  EXPECT_EQ(LoadError("c"), "the repository has no such model");
  EXPECT_EQ(Health(), (std::map<std::string, bool>{{"models/b", true}, {"models/c", false}}));
  EXPECT_THAT(registry_.Find("c", ""), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no such model")));
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_THAT(Served(), ElementsAre("a/1", "b/1"));
}

TEST_F(ModelLoaderTest, ABrokenModelLeavesTheOthersAlone) {
  Put("a", "no weights");
  Put("b");
  Put("c", "throws");
  Begin();
  EXPECT_THAT(Served(), ElementsAre("b/1"));
  EXPECT_EQ(LoadError("a"), "version 1: no weights");
  EXPECT_EQ(LoadError("c"), "version 1: memory is short");
  EXPECT_FALSE(Health().at("models/a"));
  EXPECT_TRUE(Health().at("models/b"));
  EXPECT_THAT(registry_.Find("a", ""), StatusIs(absl::StatusCode::kUnavailable,
                                                "model: \"a\" could not be loaded: version 1: no weights"));
}

TEST_F(ModelLoaderTest, WhereTheNewestIsBrokenTheOneBeforeServes) {
  Put("a/1");
  Put("a/2");
  Put("a/3", "bad");
  Begin();
  EXPECT_THAT(Served(), ElementsAre("a/2"));
  EXPECT_EQ(LoadError("a"), "version 3: bad");
  EXPECT_TRUE(Health().at("models/a"));
  EXPECT_FALSE(Health().at("models/a/3"));
}

TEST_F(ModelLoaderTest, LoadSwapsToANewVersionAndTheOldOneStaysWithItsRequests) {
  Put("a/1");
  Begin();
  const auto request = *registry_.Find("a", "");
  Put("a/2");
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_THAT(Served(), ElementsAre("a/2"));
  EXPECT_EQ(request->version, "1");
  Put("a/3");
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_EQ(held_bytes_, 2 * request->model.packed_bytes());  // version 1 still drains beside version 2
}

TEST_F(ModelLoaderTest, MemoryOfDrainedVersionsCountsNoMore) {
  Put("a/1");
  Begin();
  const int64_t bytes = (*registry_.Find("a", ""))->model.packed_bytes();
  for (const char* version : {"2", "3", "4"}) {
    Put(std::string("a/") + version);
    EXPECT_THAT(Load("a"), IsOk());
    EXPECT_EQ(held_bytes_, bytes);
  }
}

TEST_F(ModelLoaderTest, ABrokenNewVersionNeverReplacesAGoodOne) {
  Put("a/1");
  Begin();
  Put("a/2", "bad");
  EXPECT_THAT(Load("a"), StatusIs(absl::StatusCode::kInvalidArgument, "version 2: bad"));
  EXPECT_THAT(Served(), ElementsAre("a/1"));
  EXPECT_EQ(LoadError("a"), "version 2: bad");
  EXPECT_TRUE(Health().at("models/a"));
  EXPECT_FALSE(Health().at("models/a/2"));
  EXPECT_THAT(metrics_->Text(), HasSubstr("headlight_model_loads_total{model=\"a\",result=\"error\"} 1"));

  Put("a/2");  // mended
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_THAT(Served(), ElementsAre("a/2"));
  EXPECT_EQ(LoadError("a"), "");
  EXPECT_TRUE(Health().at("models/a/2"));
}

TEST_F(ModelLoaderTest, ABrokenChangeOfTheServingVersionNeitherReplacesItNorStepsBack) {
  Put("a/1");
  Put("a/2");
  Begin();
  const auto good = *registry_.Find("a", "");
  Put("a/2", "bad");
  EXPECT_THAT(Load("a"), StatusIs(absl::StatusCode::kInvalidArgument, "version 2: bad"));
  EXPECT_EQ(*registry_.Find("a", ""), good);
}

TEST_F(ModelLoaderTest, LoadOfWhatServesDoesNothing) {
  Put("a");
  Begin();
  Tried();
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_THAT(Tried(), IsEmpty());
}

TEST_F(ModelLoaderTest, LoadOfAnUnknownModelGetsTheNamesOfTheRepository) {
  Put("a");
  Put("b");
  Begin({.load = {"a"}});
  EXPECT_THAT(Load("x"), StatusIs(absl::StatusCode::kNotFound,
                                  "model: the repository has no model \"x\"; there is a, b"));
}

TEST_F(ModelLoaderTest, AnUnloadedModelRestsUntilItIsAskedFor) {
  Put("a");
  Put("b");
  Begin({.poll_s = kFastPoll});
  EXPECT_THAT(Unload("a"), IsOk());
  EXPECT_THAT(Served(), ElementsAre("b/1"));
  EXPECT_FALSE(Health().at("models/a"));
  EXPECT_THAT(Unload("a"), StatusIs(absl::StatusCode::kNotFound, "model: no model \"a\"; there is b"));
  Put("c");
  ASSERT_TRUE(Eventually([this] { return Served() == std::vector<std::string>{"b/1", "c/1"}; }));
  EXPECT_THAT(Load("a"), IsOk());
  EXPECT_THAT(Served(), ElementsAre("a/1", "b/1", "c/1"));
  EXPECT_TRUE(Health().at("models/a"));
}

TEST_F(ModelLoaderTest, PollingNoticesNewChangedAndRemovedVersionsAndModels) {
  Put("a/1");
  Begin({.poll_s = kFastPoll});
  const auto serves = [this](std::vector<std::string> wanted) {
    return Eventually([&] { return Served() == wanted; });
  };
  Put("a/2");
  Put("b");
  EXPECT_TRUE(serves({"a/2", "b/1"}));
  const auto before = *registry_.Find("b", "");
  Put("b");
  EXPECT_TRUE(Eventually([&] { return registry_.Find("b", "").ok() && *registry_.Find("b", "") != before; }));
  Remove("a/2");
  EXPECT_TRUE(serves({"a/1", "b/1"}));
  Remove("a");
  EXPECT_TRUE(serves({"b/1"}));
  EXPECT_THAT(registry_.Find("a", ""), StatusIs(absl::StatusCode::kNotFound, ::testing::_));
  EXPECT_FALSE(Health().at("models/a"));
}

TEST_F(ModelLoaderTest, FilesThatStillChangeAreNotTaken) {
  Begin({.poll_s = 0.25});  // the writer below must not stand still for so long
  const auto until = std::chrono::steady_clock::now() + 1s;
  fs::create_directories(root_ / "a");
  for (int i = 0; std::chrono::steady_clock::now() < until; ++i) {
    std::ofstream(root_ / "a/config.json", std::ios::app) << i;
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_THAT(Tried(), IsEmpty());
  Put("a");
  EXPECT_TRUE(Eventually([this] { return !Served().empty(); }));
}

TEST_F(ModelLoaderTest, ABrokenVersionIsTriedAgainOnlyWhenItsFilesChange) {
  Put("a/1", "bad");
  Begin({.poll_s = kFastPoll});
  Put("b");  // by the time that it serves there were looks enough
  ASSERT_TRUE(Eventually([this] { return registry_.Find("b", "").ok(); }));
  EXPECT_THAT(Tried(), ElementsAre("a/1", "b/1"));
  EXPECT_EQ(LoadError("a"), "version 1: bad");
  Put("a/1");
  ASSERT_TRUE(Eventually([this] { return registry_.Find("a", "").ok(); }));
  EXPECT_THAT(Tried(), ElementsAre("a/1"));
  EXPECT_TRUE(Eventually([this] { return LoadError("a").empty(); }));
}

TEST_F(ModelLoaderTest, WhatDidNotFitIsTriedAgainWhenMemoryIsBack) {
  Put("a");
  Put("b", "huge");
  Begin({.poll_s = kFastPoll});
  EXPECT_EQ(LoadError("b"), "version 1: does not fit");
  Remove("a");
  EXPECT_TRUE(Eventually([this] { return Served() == std::vector<std::string>{"b/1"}; }));
}

TEST_F(ModelLoaderTest, ARepositoryOutOfReachChangesNothing) {
  Put("a");
  Begin({.poll_s = kFastPoll});
  fs::rename(root_, root_.string() + ".away");
  std::this_thread::sleep_for(50ms);
  EXPECT_THAT(Served(), ElementsAre("a/1"));
  EXPECT_THAT(Load("a"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot read")));
  fs::rename(root_.string() + ".away", root_);
  EXPECT_THAT(Load("a"), IsOk());
}

TEST_F(ModelLoaderTest, AMissingRepositoryIsAnErrorAtTheStart) {
  ModelLoader loader({.repository = (root_ / "nowhere").string()}, registry_, *metrics_, nullptr);
  EXPECT_THAT(loader.LoadAll(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot read")));
}

TEST_F(ModelLoaderTest, CallersAreToldNoPath) {
  Put("a/1", "in folder");
  Begin();
  EXPECT_EQ(LoadError("a"), "version 1: config.json: bad \xEF\xBF\xBD");
  EXPECT_THAT(Load("a"),
              StatusIs(absl::StatusCode::kInvalidArgument, "version 1: config.json: bad \xEF\xBF\xBD"));
  Remove("");
  EXPECT_THAT(Load("a"), StatusIs(absl::StatusCode::kNotFound, Not(HasSubstr(root_.string()))));
}

TEST_F(ModelLoaderTest, AFolderOfOneModelServesBesideTheRepository) {
  Put("a");
  Put(".mine/1");
  Begin({.load = {"a"}, .folders = {{"b", (root_ / ".mine").string()}}});
  EXPECT_THAT(Served(), ElementsAre("a/1", "b/1"));
}

TEST_F(ModelLoaderTest, ALoadThatHangsHoldsUpNoStop) {
  Begin();
  Put("a", "hangs");
  std::promise<absl::Status> answer;
  loader_->Load("a", [&](absl::Status status) { answer.set_value(std::move(status)); });
  ASSERT_TRUE(Eventually([this] { return !Tried().empty(); }));
  EXPECT_FALSE(loader_->Stop(1ms));
  EXPECT_FALSE(loader_->Stop(1ms));
  EXPECT_THAT(answer.get_future().get(),
              StatusIs(absl::StatusCode::kUnavailable, "the server is shutting down"));
  EXPECT_THAT(Served(), IsEmpty());
  ModelLoader* const left = loader_.release();  // as its owner must
  hang_.set_value();
  ASSERT_TRUE(Eventually([this] { return hang_is_over_.load(); }));
  EXPECT_THAT(Served(), IsEmpty());
  EXPECT_FALSE(Health().contains("models/a"));
  static ModelLoader* const kept = left;  // reachable, for leak checkers
  EXPECT_NE(kept, nullptr);
}

TEST_F(ModelLoaderTest, StopWithinItsLimitLeavesNothing) {
  Put("a");
  Begin();
  EXPECT_TRUE(loader_->Stop(30s));
  EXPECT_TRUE(loader_->Stop(30s));
}

TEST_F(ModelLoaderTest, StopAbandonsALoadAndAnswersWhoWaits) {
  Begin();
  Put("a", "slow");
  std::promise<absl::Status> first, second, late;
  loader_->Load("a", [&](absl::Status status) { first.set_value(std::move(status)); });
  ASSERT_TRUE(Eventually([this] { return !Tried().empty(); }));
  loader_->Load("a", [&](absl::Status status) { second.set_value(std::move(status)); });
  loader_->Stop();
  loader_->Unload("a", [&](absl::Status status) { late.set_value(std::move(status)); });
  for (std::promise<absl::Status>* promise : {&first, &second, &late}) {
    EXPECT_THAT(promise->get_future().get(),
                StatusIs(absl::StatusCode::kUnavailable, "the server is shutting down"));
  }
}

}  // namespace
}  // namespace headlight
