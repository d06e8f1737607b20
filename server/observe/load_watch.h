// SPDX-License-Identifier: Apache-2.0
//
// Which models are being loaded, since when, and what went wrong with the last load of each.
#ifndef HEADLIGHT_SERVER_OBSERVE_LOAD_WATCH_H_
#define HEADLIGHT_SERVER_OBSERVE_LOAD_WATCH_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "server/models/load_observer.h"

namespace headlight {

// Thread-safe. Passes on what it hears.
class LoadWatch final : public LoadObserver {
 public:
  struct Loading {
    std::string version;
    std::chrono::steady_clock::time_point since;
  };
  struct Failure {
    std::string version;
    std::string error;  // in full, with paths: for operators, not for callers
  };

  using OnLoading = std::function<void(const std::string& model)>;

  // `next` must outlive it. `on_loading`, if there is one, hears of each model before it is read, from the
  // thread that loads.
  explicit LoadWatch(LoadObserver& next, OnLoading on_loading = nullptr)
      : next_(next), on_loading_(std::move(on_loading)) {}

  void ModelLoadBegan(const std::string& model, const std::string& version) override;
  void ModelLoadEnded(const std::string& model, const std::string& version, const absl::Status& status,
                      double seconds) override;
  void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) override;
  void ModelIsGone(const std::string& model) override;

  std::map<std::string, Loading> loading() const;   // by model
  std::map<std::string, Failure> failures() const;  // by model, of those whose last load failed

 private:
  LoadObserver& next_;
  const OnLoading on_loading_;
  mutable std::mutex mutex_;
  std::map<std::string, Loading> loading_;   // guarded by mutex_
  std::map<std::string, Failure> failures_;  // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_LOAD_WATCH_H_
