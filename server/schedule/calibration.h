// SPDX-License-Identifier: Apache-2.0
//
// How real times compare with predicted ones of late: a factor and a deviation.
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

 private:
  // Sums that fade. They begin as one millisecond that was predicted well.
  double fast_real_ = 1e6, fast_predicted_ = 1e6;
  double slow_real_ = 1e6, slow_predicted_ = 1e6;
  double errors_ = 2.0, error_weight_ = 0.5;  // of squared relative errors
  int64_t num_since_change_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_CALIBRATION_H_
