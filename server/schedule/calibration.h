// SPDX-License-Identifier: Apache-2.0
//
// How real times compare with predicted ones of late: a factor, a deviation of each, and a drift of all.
#ifndef HEADLIGHT_SERVER_SCHEDULE_CALIBRATION_H_
#define HEADLIGHT_SERVER_SCHEDULE_CALIBRATION_H_

#include <cstdint>

namespace headlight {

// Not thread-safe.
class Calibration {
 public:
  // Tickets that were predicted to take predicted_ns in all (squares_ns2: the sum of their predictions'
  // squares) took real_ns.
  void Observe(double predicted_ns, double squares_ns2, double real_ns);

  // Real over predicted. Follows slowly while it fits, and within a dozen batches when it no longer does.
  double factor() const { return slow_real_ / slow_predicted_; }

  // Standard deviation of one ticket's real time, relative to its prediction after correction. Begins large:
  // what has never been compared is not to be trusted.
  double deviation() const;

  // What all times of a stretch of some 100 ms are off together, beyond what deviations that do not know of
  // each other explain: root mean square, relative. The machine's speed wanders when others use it too.
  double drift() const;

 private:
  // The first two as Observe has them, with correction.
  void ObserveStretch(double expected_ns, double squares_ns2, double real_ns);

  // Sums that fade. They begin as one millisecond that was predicted well.
  double fast_real_ = 1e6, fast_predicted_ = 1e6;
  double slow_real_ = 1e6, slow_predicted_ = 1e6;
  double errors_ = 2.0, error_weight_ = 0.5;  // of squared relative errors
  int64_t num_since_change_ = 0;

  // The stretch that is not over yet.
  double stretch_real_ = 0, stretch_expected_ = 0, stretch_squares_ = 0;
  double drift2_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_CALIBRATION_H_
