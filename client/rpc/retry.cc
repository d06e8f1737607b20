// SPDX-License-Identifier: Apache-2.0
#include "client/retry.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/rpc/trailer.h"
#include "headlight/v1/metadata.h"

namespace headlight::client {
namespace {

constexpr int kMaxAttempts = 100;
constexpr double kJitter = 0.2;
constexpr double kMaxBudgetRatio = 100;
constexpr int kMaxBudgetReserve = 1'000'000;

}  // namespace

absl::Status CheckRetryOptions(const RetryOptions& options) {
  if (options.max_attempts < 1 || options.max_attempts > kMaxAttempts) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.max_attempts: got ", options.max_attempts, ", wanted 1 to ", kMaxAttempts));
  }
  if (options.initial_backoff.count() < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "retry.initial_backoff: got ", options.initial_backoff.count(), " ms, wanted at least 1 ms"));
  }
  if (options.max_backoff < options.initial_backoff) {
    return absl::InvalidArgumentError(absl::StrCat("retry.max_backoff: got ", options.max_backoff.count(),
                                                   " ms, wanted at least retry.initial_backoff, ",
                                                   options.initial_backoff.count(), " ms"));
  }
  if (options.attempt_timeout.count() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "retry.attempt_timeout: got ", options.attempt_timeout.count(), " ms, wanted 0 for none, or more"));
  }
  if (!(options.budget_ratio >= 0 && options.budget_ratio <= kMaxBudgetRatio)) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.budget_ratio: got ", options.budget_ratio, ", wanted 0 to ", kMaxBudgetRatio));
  }
  if (options.budget_reserve < 0 || options.budget_reserve > kMaxBudgetReserve) {
    return absl::InvalidArgumentError(absl::StrCat("retry.budget_reserve: got ", options.budget_reserve,
                                                   ", wanted 0 to ", kMaxBudgetReserve));
  }
  return absl::OkStatus();
}

Pushback ReadPushback(const grpc::ClientContext& context) {
  const std::optional<std::string> text = ReadTrailer(context, v1::kPushbackTrailer);
  if (!text) return {};
  int64_t delay_ms = 0;
  if (!absl::SimpleAtoi(*text, &delay_ms) || delay_ms < 0 || delay_ms > std::numeric_limits<int32_t>::max()) {
    return {.given = true, .delay = std::nullopt};
  }
  return {.given = true, .delay = std::chrono::milliseconds(delay_ms)};
}

std::optional<std::chrono::milliseconds> DelayBeforeRetry(const RetryOptions& options, int attempts,
                                                          absl::StatusCode code, const Pushback& pushback,
                                                          double jitter) {
  if (attempts >= options.max_attempts) return std::nullopt;
  if (code != absl::StatusCode::kUnavailable && code != absl::StatusCode::kResourceExhausted) {
    return std::nullopt;
  }
  if (pushback.given) return pushback.delay;
  if (code == absl::StatusCode::kResourceExhausted) return std::nullopt;  // too large, or too busy: who knows
  double backoff_ms = static_cast<double>(options.initial_backoff.count());
  const double longest_ms = static_cast<double>(options.max_backoff.count());
  for (int i = 1; i < attempts && backoff_ms < longest_ms; ++i) backoff_ms *= 2;
  backoff_ms = std::min(backoff_ms, longest_ms) * (1 - kJitter + 2 * kJitter * jitter);
  return std::chrono::milliseconds(std::max<int64_t>(1, static_cast<int64_t>(backoff_ms)));
}

}  // namespace headlight::client
