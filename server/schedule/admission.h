// SPDX-License-Identifier: Apache-2.0
//
// Whether a request is let in: the predicted time of what is ahead of it and of itself, against its deadline.
// How far predictions are to be trusted is learnt from what batches really took.
#ifndef HEADLIGHT_SERVER_SCHEDULE_ADMISSION_H_
#define HEADLIGHT_SERVER_SCHEDULE_ADMISSION_H_

#include <cstdint>
#include <limits>
#include <optional>

#include "server/schedule/calibration.h"
#include "server/schedule/clock.h"
#include "server/schedule/ticket.h"

namespace headlight {

struct AdmissionOptions {
  double late_goal = 4e-4;       // the share of admitted tickets that may come late
  int64_t base_margin_us = 500;  // of every decision, for what no prediction sees
  double size_guard_share =
      0.2;  // at most this part of a deadline is kept free for large tickets at overload
};

// What is ahead of one ticket; predicted nanoseconds before correction unless said otherwise.
struct WorkAhead {
  double running_ns = 0;   // what is left of the batch that is computed
  double waiting_ns = 0;   // tickets that will be computed before it
  double squares_ns2 = 0;  // sum of the squares of all these tickets' predictions
  // Others have a part of the cores meanwhile: everything takes `slowdown` times as long, but at most
  // slowdown_limit_ns (with correction) longer.
  double slowdown = 1;
  double slowdown_limit_ns = std::numeric_limits<double>::infinity();
  // Least time to spare, with correction, of those that will be computed after it.
  double slack_behind_ns = std::numeric_limits<double>::infinity();
  bool idle = true;  // nothing runs and nothing waits
};

// Not thread-safe.
class Admission {
 public:
  explicit Admission(const AdmissionOptions& options) : options_(options) {}

  // Nothing: admitted. `probe`: nothing is known of the ticket's class for sure, so that an idle server tries
  // it even if it seems hopeless. A held-back ticket is always admitted.
  //   RESOURCE_EXHAUSTED, behind_queue: it, or one that was admitted before, would be late; comes with the
  //   time in
  //     which the backlog drains
  //   DEADLINE_EXCEEDED, deadline_too_short: late even on an idle server
  std::optional<Refusal> Decide(TimePoint now, const Ticket& ticket, const WorkAhead& ahead,
                                bool probe) const;

  // With only the deadline known: refused if what is ahead misses it by itself.
  std::optional<Refusal> DecideFromHeaders(TimePoint now, TimePoint deadline, const WorkAhead& ahead) const;

  // What was decided of a ticket that has a deadline; learns how large tickets are and how many are refused.
  void Decided(const Ticket& ticket, bool admitted);

  // An admitted ticket with a deadline has ended: in time or late (dropped, or finished after its deadline).
  void Ended(bool late);

  // A batch of tickets that were predicted to take predicted_ns (squares_ns2: the sum of their squares) took
  // real_ns.
  void Observe(double predicted_ns, double squares_ns2, double real_ns);

  // What predictions are multiplied with.
  double correction() const { return calibration_.factor(); }
  // Typical relative error of one ticket's prediction.
  double deviation() const { return calibration_.deviation(); }

  // Nanoseconds until a ticket that is predicted to take `own_ns` is computed behind `ahead`.
  double ExpectedNs(const WorkAhead& ahead, double own_ns) const;

 private:
  // What is added to ExpectedNs to be safe.
  double MarginNs(const WorkAhead& ahead, double own_ns) const;
  double SizeGuardNs(double left_ns) const;

  AdmissionOptions options_;
  Calibration calibration_;
  double caution_ = 3;        // deviations that are kept free
  double refused_share_ = 0;  // of late
  double largest_ns_ = 0;     // prediction of late, with correction
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_ADMISSION_H_
