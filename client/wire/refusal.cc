// SPDX-License-Identifier: Apache-2.0
#include "client/wire/refusal.h"

#include "absl/strings/cord.h"

namespace headlight::client {
namespace {

constexpr char kRefusalUrl[] = "type.googleapis.com/headlight.v1.AttendError";

}  // namespace

absl::Status WithRefusal(absl::Status status, const Refusal& refusal) {
  if (status.ok() || (refusal.retry_delay.count() <= 0 && refusal.reason.empty())) return status;
  v1::AttendError error;
  error.set_retry_delay_ms(refusal.retry_delay.count());
  error.set_reason(refusal.reason);
  status.SetPayload(kRefusalUrl, absl::Cord(error.SerializeAsString()));
  return status;
}

Refusal RefusalOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRefusalUrl);
  v1::AttendError error;
  if (!payload || !error.ParseFromString(std::string(*payload))) return {};
  return {.retry_delay = std::chrono::milliseconds(error.retry_delay_ms()), .reason = error.reason()};
}

}  // namespace headlight::client
