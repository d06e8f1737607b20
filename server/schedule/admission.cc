// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/admission.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace headlight {
namespace {

constexpr double kRelativeMargin = 0.005;  // of what is expected
constexpr double kMostDoubtAlone =
    0.1;  // an idle server tries what is predicted to take 90 % of its deadline

// The caution is steered: it grows by kCautionStep with each late ticket, and shrinks by so much less with
// each one in time that it stands still at AdmissionOptions::late_goal.
constexpr double kCautionStep = 0.2;
constexpr double kLeastCaution = 1;
constexpr double kMostCaution = 6;

// How many of late are refused, over some 200 decisions. At or below the first share (what random arrivals
// cost a server that is just fully used) every ticket that fits is let in; at the second all sizes are
// refused alike.
constexpr double kRefusedGain = 1.0 / 200;
constexpr double kFewRefused = 0.08;
constexpr double kManyRefused = 0.25;
constexpr double kLargestFades = 1.0 / 2000;  // per decision

double LeftNsOf(TimePoint now, TimePoint deadline) {
  return std::chrono::duration<double, std::nano>(deadline - now).count();
}

std::string Milliseconds(double ns) { return absl::StrFormat("%.1f ms", ns / 1e6); }

Refusal BehindQueue(double wait_ns, double left_ns) {
  return {absl::ResourceExhaustedError(absl::StrCat("the server is busy: what is ahead takes about ",
                                                    Milliseconds(wait_ns), ", the deadline is in ",
                                                    Milliseconds(left_ns))),
          kReasonBehindQueue, std::max<int64_t>(1000, static_cast<int64_t>(wait_ns / 1e3))};
}

Refusal TooShort(double own_ns, double left_ns) {
  return {absl::DeadlineExceededError(
              absl::StrCat("the deadline is in ", Milliseconds(std::max(left_ns, 0.0)),
                           ", and computing this request alone takes about ", Milliseconds(own_ns))),
          kReasonDeadlineTooShort, 0};
}

}  // namespace

double Admission::ExpectedNs(const WorkAhead& ahead, double own_ns) const {
  const double alone_ns = correction() * (ahead.running_ns + ahead.waiting_ns + own_ns);
  return alone_ns + std::min(alone_ns * (ahead.slowdown - 1), ahead.slowdown_limit_ns);
}

double Admission::MarginNs(const WorkAhead& ahead, double own_ns) const {
  const double spread_ns = correction() * deviation() * std::sqrt(ahead.squares_ns2 + own_ns * own_ns);
  const double expected_ns = ExpectedNs(ahead, own_ns);
  return static_cast<double>(options_.base_margin_us) * 1e3 +
         caution_ * std::hypot(spread_ns, calibration_.drift() * expected_ns) + kRelativeMargin * expected_ns;
}

double Admission::SizeGuardNs(double left_ns) const {
  const double part = std::clamp((refused_share_ - kFewRefused) / (kManyRefused - kFewRefused), 0.0, 1.0);
  return part * std::min(largest_ns_, left_ns * options_.size_guard_share);
}

std::optional<Refusal> Admission::Decide(TimePoint now, const Ticket& ticket, const WorkAhead& ahead,
                                         bool probe) const {
  if (ticket.held_back) return std::nullopt;
  const auto own_ns = static_cast<double>(ticket.predicted_ns);
  if (ahead.slack_behind_ns >= 0 && ahead.slack_behind_ns < own_ns * correction())
    return BehindQueue(ExpectedNs(ahead, own_ns), LeftNsOf(now, ticket.deadline));
  if (ticket.deadline == TimePoint::max()) return std::nullopt;

  const double left_ns = LeftNsOf(now, ticket.deadline);
  const double alone_ns = own_ns * correction() * (1 + std::min(deviation(), kMostDoubtAlone));
  if (left_ns <= 0 || (alone_ns > left_ns && !(probe && ahead.idle))) return TooShort(alone_ns, left_ns);
  if (ahead.idle) return std::nullopt;
  const double guarded_ns = std::max(own_ns, SizeGuardNs(left_ns) / correction());
  if (ExpectedNs(ahead, guarded_ns) + MarginNs(ahead, guarded_ns) > left_ns)
    return BehindQueue(ExpectedNs(ahead, 0), left_ns);
  return std::nullopt;
}

std::optional<Refusal> Admission::DecideFromHeaders(TimePoint now, TimePoint deadline,
                                                    const WorkAhead& ahead) const {
  if (deadline == TimePoint::max()) return std::nullopt;
  const double left_ns = LeftNsOf(now, deadline);
  if (left_ns <= 0) {
    return Refusal{absl::DeadlineExceededError("the deadline has passed before the request was read"),
                   kReasonDeadlinePassed, 0};
  }
  if (ahead.idle || ExpectedNs(ahead, 0) + MarginNs(ahead, 0) <= left_ns) return std::nullopt;
  return BehindQueue(ExpectedNs(ahead, 0), left_ns);
}

void Admission::Decided(const Ticket& ticket, bool admitted) {
  if (ticket.deadline == TimePoint::max() || ticket.held_back) return;
  refused_share_ += kRefusedGain * ((admitted ? 0.0 : 1.0) - refused_share_);
  largest_ns_ =
      std::max(largest_ns_ * (1 - kLargestFades), static_cast<double>(ticket.predicted_ns) * correction());
}

void Admission::Ended(bool late) {
  caution_ += kCautionStep * ((late ? 1.0 : 0.0) - options_.late_goal);
  caution_ = std::clamp(caution_, kLeastCaution, kMostCaution);
}

void Admission::Observe(double predicted_ns, double squares_ns2, double real_ns) {
  calibration_.Observe(predicted_ns, squares_ns2, real_ns);
}

}  // namespace headlight
