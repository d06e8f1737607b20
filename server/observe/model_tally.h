// SPDX-License-Identifier: Apache-2.0
//
// What each model has done since it came: the sums of its requests' records.
#ifndef HEADLIGHT_SERVER_OBSERVE_MODEL_TALLY_H_
#define HEADLIGHT_SERVER_OBSERVE_MODEL_TALLY_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "server/models/registry.h"
#include "server/observe/request_log.h"

namespace headlight {

// Of one version of a model. Times are sums of the records' fields of these names, microseconds.
struct ModelTally {
  // Of batches of one size. A request of a batch of n counts as 1/n of it: whole once all of them have ended.
  struct OfBatches {
    double count = 0;
    double pack_us = 0;
    double compute_us = 0;
    double unpack_us = 0;
  };

  std::chrono::system_clock::time_point last;  // when a request last ended; the epoch: never
  int64_t succeeded = 0;                       // requests
  int64_t succeeded_us = 0;                    // from arrival to reply
  int64_t failed = 0;                          // whatever the reason
  int64_t failed_us = 0;
  // Of requests that succeeded:
  int64_t sequences = 0;
  int64_t queue_us = 0;
  int64_t pack_us = 0;
  int64_t compute_us = 0;
  int64_t unpack_us = 0;  // with encode_us
  double batches = 0;
  std::map<int64_t, OfBatches> by_size;  // of a batch in sequences; kMostSizes at most, the first that came
};

// Thread-safe. Holds what the registry holds, and what has left it since a model last came: its size is not
// for callers to choose.
class ModelTallies final : public RequestObserver {
 public:
  static constexpr size_t kMostSizes = 64;

  // `registry` must outlive it.
  explicit ModelTallies(const ModelRegistry& registry) : registry_(registry) {}

  void RequestEnded(const RequestRecord& record) override;

  // All 0: nothing was asked of it yet, or there is no such one.
  ModelTally Of(const std::string& model, const std::string& version) const;

 private:
  using Versions = std::map<std::string, ModelTally>;

  ModelTally* Find(const RequestRecord& record);  // requires mutex_; null: of no model that there is
  ModelTally* Add(const LoadedModel& model);      // requires mutex_

  const ModelRegistry& registry_;
  mutable std::mutex mutex_;
  std::map<std::string, Versions> tallies_;  // guarded by mutex_; by model
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_MODEL_TALLY_H_
