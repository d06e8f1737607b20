// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/task_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::StatusIs;

const TimePoint kNow{std::chrono::hours(1)};

std::shared_ptr<const LoadedModel> Model(const std::string& name) {
  return testing::MakeTestModel(name).loaded;
}

// A task of `tokens` query tokens; size_bytes serves as its name.
AttendTask Task(int64_t name, std::shared_ptr<const LoadedModel> model, int64_t tokens = 1) {
  AttendTask task;
  task.size_bytes = name;
  task.model = std::move(model);
  task.q_tokens = task.kv_tokens = tokens;
  task.q_lens = task.kv_lens = {tokens};
  task.cancelled = std::make_shared<CancellationToken>();
  return task;
}

std::vector<int64_t> Names(const std::vector<AttendTask>& tasks) {
  std::vector<int64_t> names;
  for (const AttendTask& task : tasks) names.push_back(task.size_bytes);
  return names;
}

TEST(TaskQueueTest, TakesInOrderUpToTheBudget) {
  TaskQueue queue;
  const auto model = Model("a");
  for (int64_t i = 0; i < 5; ++i) queue.Push(Task(i, model, 10));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(0, 1, 2));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(3, 4));
  EXPECT_TRUE(queue.empty());
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre());
}

TEST(TaskQueueTest, ATaskOverTheBudgetGoesAlone) {
  TaskQueue queue;
  const auto model = Model("a");
  queue.Push(Task(0, model, 100));
  queue.Push(Task(1, model, 1));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(0));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(1));
}

TEST(TaskQueueTest, ATaskThatDoesNotFitIsNotOvertaken) {
  TaskQueue queue;
  const auto model = Model("a");
  queue.Push(Task(0, model, 10));
  queue.Push(Task(1, model, 100));
  queue.Push(Task(2, model, 10));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(0));
}

TEST(TaskQueueTest, ModelsAreNotMixed) {
  TaskQueue queue;
  const auto a = Model("a");
  const auto b = Model("b");
  queue.Push(Task(0, a));
  queue.Push(Task(1, b));
  queue.Push(Task(2, a));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(0, 2));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(1));
}

TEST(TaskQueueTest, KindsOfInputAreNotMixed) {
  TaskQueue queue;
  const auto model = Model("a");
  for (const InputKind kind :
       {InputKind::kSelf, InputKind::kSharedKey, InputKind::kKeyAndValue, InputKind::kSelf}) {
    AttendTask task = Task(static_cast<int64_t>(kind), model);
    task.kind = kind;
    queue.Push(std::move(task));
  }
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(0, 0));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(1));
  EXPECT_THAT(Names(queue.TakeBatch(30)), ElementsAre(2));
}

TEST(TaskQueueTest, KeysCountTowardsTheBudget) {
  AttendTask task = Task(0, Model("a"), 10);
  EXPECT_EQ(task.cost_tokens(), 10);
  task.kind = InputKind::kSharedKey;
  EXPECT_EQ(task.cost_tokens(), 20);
}

TEST(TaskQueueTest, TakesOutTheDeadAndSaysWhy) {
  TaskQueue queue;
  const auto model = Model("a");
  auto token = std::make_shared<CancellationToken>();
  AttendTask cancelled = Task(1, model);
  cancelled.cancelled = token;
  AttendTask expired = Task(2, model);
  expired.deadline = kNow;
  AttendTask alive = Task(3, model);
  alive.deadline = kNow + std::chrono::nanoseconds(1);
  queue.Push(std::move(cancelled));
  queue.Push(std::move(expired));
  queue.Push(std::move(alive));
  token->Cancel();

  const std::vector<DroppedTask> dead = queue.TakeDead(kNow);
  ASSERT_EQ(dead.size(), 2u);
  EXPECT_EQ(dead[0].task.size_bytes, 1);
  EXPECT_THAT(dead[0].reason,
              StatusIs(absl::StatusCode::kCancelled, "the caller cancelled while the request was queued"));
  EXPECT_EQ(dead[1].task.size_bytes, 2);
  EXPECT_THAT(dead[1].reason, StatusIs(absl::StatusCode::kDeadlineExceeded,
                                       "the deadline passed while the request was queued"));
  EXPECT_THAT(Names(queue.TakeAll()), ElementsAre(3));
  EXPECT_EQ(queue.num_tasks(), 0);
}

}  // namespace
}  // namespace headlight
