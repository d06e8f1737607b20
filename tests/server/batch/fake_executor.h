// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the computation: writes down what it is given, fails or waits when told to, and answers
// zeros.
#ifndef HEADLIGHT_TESTS_SERVER_BATCH_FAKE_EXECUTOR_H_
#define HEADLIGHT_TESTS_SERVER_BATCH_FAKE_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/batch/batch_executor.h"
#include "server/batch/batch_input.h"

namespace headlight::testing {

class FakeExecutor final : public BatchExecutor {
 public:
  // `on_batch` is called for each batch, after it was held.
  explicit FakeExecutor(std::function<void()> on_batch = [] {}) : on_batch_(std::move(on_batch)) {}

  absl::StatusOr<std::vector<BatchResult>> Execute(std::span<const BatchInput* const> inputs,
                                                   Lease&) override {
    Hold hold;
    {
      const std::lock_guard lock(mutex_);
      hold = std::exchange(hold_, {});
    }
    if (hold.entered != nullptr) {
      hold.entered->set_value();
      hold.release.wait();
    }
    on_batch_();
    const std::lock_guard lock(mutex_);
    std::vector<int64_t>& sizes = batches_.emplace_back();
    for (const BatchInput* input : inputs) sizes.push_back(input->q_tokens);
    if (!error_.ok()) return error_;
    std::vector<BatchResult> results;
    for (const BatchInput* input : inputs) {
      results.push_back(Zeros(*input));
      results.back().batch_requests = static_cast<int64_t>(inputs.size());
    }
    return results;
  }

  // The next batch stops at its start: the first of the pair tells when it is there, the second lets it go
  // on.
  std::pair<std::future<void>, std::promise<void>> HoldNextBatch() {
    std::promise<void> release;
    const std::lock_guard lock(mutex_);
    hold_ = {std::make_shared<std::promise<void>>(), release.get_future().share()};
    return {hold_.entered->get_future(), std::move(release)};
  }

  // The outcome of every batch that ends from now on.
  void set_error(absl::Status error) {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }

  // Tokens of the requests of every batch so far.
  std::vector<std::vector<int64_t>> batches() const {
    const std::lock_guard lock(mutex_);
    return batches_;
  }

 private:
  struct Hold {
    std::shared_ptr<std::promise<void>> entered;
    std::shared_future<void> release;
  };

  static std::shared_ptr<const void> ZeroBytes(int64_t size_bytes) {
    auto bytes = std::make_shared<std::vector<char>>(size_bytes);
    return bytes->empty() ? nullptr : std::shared_ptr<const void>(bytes, bytes->data());
  }

  static BatchResult Zeros(const BatchInput& input) {
    const int64_t size = SizeOf(input.output_dtype);
    BatchResult result;
    result.output =
        ZeroBytes(input.num_outputs(input.model->model.config().block.attention.embed_dim) * size);
    result.weights = ZeroBytes(input.weights.num_weights * size);
    auto keys = std::make_shared<std::vector<int32_t>>(input.weights.num_keys);
    if (!keys->empty()) result.weights_keys = {keys, keys->data()};
    result.received_mass = ZeroBytes(input.weights.num_received * size);
    return result;
  }

  const std::function<void()> on_batch_;
  mutable std::mutex mutex_;
  Hold hold_;                                  // guarded by mutex_
  absl::Status error_;                         // guarded by mutex_
  std::vector<std::vector<int64_t>> batches_;  // guarded by mutex_
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_BATCH_FAKE_EXECUTOR_H_
