// SPDX-License-Identifier: Apache-2.0
#include "server/observe/model_tally.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {
namespace {

void AddSuccess(const RequestRecord& record, ModelTally& tally) {
  const int64_t unpack_us = record.unpack_us + record.encode_us;
  ++tally.succeeded;
  tally.succeeded_us += record.total_us;
  tally.sequences += record.sequences;
  tally.queue_us += record.queue_us;
  tally.pack_us += record.pack_us;
  tally.compute_us += record.compute_us;
  tally.unpack_us += unpack_us;
  const double part = 1.0 / static_cast<double>(std::max<int64_t>(record.batch_requests, 1));
  tally.batches += part;
  auto batches = tally.by_size.find(record.batch_sequences);
  if (batches == tally.by_size.end()) {
    if (tally.by_size.size() >= ModelTallies::kMostSizes) return;
    batches = tally.by_size.try_emplace(record.batch_sequences).first;
  }
  batches->second.count += part;
  batches->second.pack_us += part * static_cast<double>(record.pack_us);
  batches->second.compute_us += part * static_cast<double>(record.compute_us);
  batches->second.unpack_us += part * static_cast<double>(unpack_us);
}

}  // namespace

void ModelTallies::RequestEnded(const RequestRecord& record) {
  if (record.version.empty()) return;  // of no model, or of none that the caller may see
  const std::lock_guard lock(mutex_);
  ModelTally* const tally = Find(record);
  if (tally == nullptr) return;
  tally->last = std::chrono::system_clock::now();
  if (record.code == absl::StatusCode::kOk) return AddSuccess(record, *tally);
  ++tally->failed;
  tally->failed_us += record.total_us;
}

ModelTally* ModelTallies::Find(const RequestRecord& record) {
  const auto versions = tallies_.find(record.model);
  if (versions != tallies_.end()) {
    const auto tally = versions->second.find(record.version);
    if (tally != versions->second.end()) return &tally->second;
  }
  const auto model = registry_.Find(record.model, record.version);
  return model.ok() ? Add(**model) : nullptr;
}

ModelTally* ModelTallies::Add(const LoadedModel& model) {
  Versions& versions = tallies_[model.name];
  const auto [tally, is_new] = versions.try_emplace(model.version);
  if (is_new) {
    std::map<std::string, std::vector<std::string>> there;
    for (const auto& held : registry_.List()) there[held->name].push_back(held->version);
    there[model.name].push_back(model.version);  // it may have left by now, but is counted once more
    std::erase_if(tallies_, [&](const auto& entry) { return !there.contains(entry.first); });
    for (auto& [name, of_name] : tallies_) {
      const std::vector<std::string>& held = there[name];
      std::erase_if(of_name, [&](const auto& entry) {
        return std::find(held.begin(), held.end(), entry.first) == held.end();
      });
    }
  }
  return &tally->second;
}

ModelTally ModelTallies::Of(const std::string& model, const std::string& version) const {
  const std::lock_guard lock(mutex_);
  const auto versions = tallies_.find(model);
  if (versions == tallies_.end()) return {};
  const auto tally = versions->second.find(version);
  return tally == versions->second.end() ? ModelTally{} : tally->second;
}

}  // namespace headlight
