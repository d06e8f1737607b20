// SPDX-License-Identifier: Apache-2.0
//
// Whether models still compute what they computed when they were loaded: memory goes bad, and so do weights
// that somebody writes into.
#ifndef HEADLIGHT_SERVER_BATCH_CANARY_WATCH_H_
#define HEADLIGHT_SERVER_BATCH_CANARY_WATCH_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "server/models/loaded_model.h"
#include "server/models/registry.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

namespace headlight {

// Thread-safe but for Look, which is one thread's.
class CanaryWatch {
 public:
  // Told when the verdict on a model changes; the first one is that it is right.
  using OnVerdict = std::function<void(const std::string& model, const absl::Status& verdict)>;

  // All must outlive it.
  CanaryWatch(const ModelRegistry& registry, Scheduler& scheduler, const Clock& clock, OnVerdict on_verdict)
      : registry_(registry), scheduler_(scheduler), clock_(clock), on_verdict_(std::move(on_verdict)) {}

  // Tries `model`, which is about to serve, as ComputeCanary does, and keeps the bits of a small computation.
  absl::Status Begin(const std::shared_ptr<const LoadedModel>& model);

  // Computes the same again with every model of the registry. A few tokens each, and as patient as a stream:
  // it waits for requests, not they for it. What cannot be computed now, for memory or because the server
  // ends, is no verdict.
  void Look();

 private:
  struct Known {
    std::weak_ptr<const LoadedModel> model;
    std::string bits;
  };

  // INTERNAL: it is wrong. Others: there is no verdict.
  absl::Status Try(const std::shared_ptr<const LoadedModel>& model);

  const ModelRegistry& registry_;
  Scheduler& scheduler_;
  const Clock& clock_;
  const OnVerdict on_verdict_;
  std::map<std::string, bool> told_right_;  // by name; of the thread that looks
  std::mutex mutex_;
  std::map<const LoadedModel*, Known> known_;  // guarded by mutex_; of models that may be gone
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_CANARY_WATCH_H_
