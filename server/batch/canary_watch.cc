// SPDX-License-Identifier: Apache-2.0
#include "server/batch/canary_watch.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/batch/canary.h"

namespace headlight {

absl::Status CanaryWatch::Begin(const std::shared_ptr<const LoadedModel>& model) {
  HEADLIGHT_RETURN_IF_ERROR(ComputeCanary(model, scheduler_, clock_));
  return Try(model);
}

absl::Status CanaryWatch::Try(const std::shared_ptr<const LoadedModel>& model) {
  HEADLIGHT_ASSIGN_OR_RETURN(std::string bits, ComputeCanaryBits(model, scheduler_, clock_));
  const std::lock_guard lock(mutex_);
  Known& known = known_[model.get()];
  if (known.model.lock() == nullptr) {  // it is new, or stands where another one was
    known = {model, std::move(bits)};
    return absl::OkStatus();
  }
  if (known.bits == bits) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("model ", Quoted(model->name), " version ", Quoted(model->version),
                                          ": it computes other bits than when it was loaded"));
}

void CanaryWatch::Look() {
  std::map<std::string, absl::Status> verdicts;  // of all versions of a name
  for (const auto& model : registry_.List()) {
    const absl::Status status = Try(model);
    if (status.ok() || absl::IsInternal(status)) verdicts[model->name].Update(status);
  }
  for (const auto& [name, verdict] : verdicts) {
    const auto told = told_right_.try_emplace(name, true).first;
    if (told->second == verdict.ok()) continue;
    told->second = verdict.ok();
    on_verdict_(name, verdict);
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(known_, [](const auto& entry) { return entry.second.model.expired(); });
}

}  // namespace headlight
