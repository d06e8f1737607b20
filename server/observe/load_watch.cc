// SPDX-License-Identifier: Apache-2.0
#include "server/observe/load_watch.h"

#include "absl/status/status.h"

namespace headlight {

void LoadWatch::ModelLoadBegan(const std::string& model, const std::string& version) {
  {
    const std::lock_guard lock(mutex_);
    loading_[model] = {version, std::chrono::steady_clock::now()};
  }
  next_.ModelLoadBegan(model, version);
  if (on_loading_) on_loading_(model);
}

void LoadWatch::ModelLoadEnded(const std::string& model, const std::string& version,
                               const absl::Status& status, double seconds) {
  {
    const std::lock_guard lock(mutex_);
    loading_.erase(model);
    if (status.ok()) {
      failures_.erase(model);
    } else {
      failures_[model] = {version, status.ToString()};
    }
  }
  next_.ModelLoadEnded(model, version, status, seconds);
}

void LoadWatch::ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) {
  next_.ModelServes(model, version, memory_bytes);
}

void LoadWatch::ModelIsGone(const std::string& model) {
  {
    const std::lock_guard lock(mutex_);
    loading_.erase(model);
    failures_.erase(model);
  }
  next_.ModelIsGone(model);
}

std::map<std::string, LoadWatch::Loading> LoadWatch::loading() const {
  const std::lock_guard lock(mutex_);
  return loading_;
}

std::map<std::string, LoadWatch::Failure> LoadWatch::failures() const {
  const std::lock_guard lock(mutex_);
  return failures_;
}

}  // namespace headlight
