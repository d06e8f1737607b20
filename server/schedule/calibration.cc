// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/calibration.h"

#include <algorithm>
#include <cmath>

namespace headlight {
namespace {

constexpr double kFastGain = 1.0 / 8;    // a change shows within a dozen batches
constexpr double kSlowGain = 1.0 / 128;  // noise of one batch moves the factor by less than 1 % of it
constexpr int64_t kLongest = static_cast<int64_t>(1 / kSlowGain);
constexpr double kWildest = 2;  // times what was expected: a batch that was disturbed counts as no more
constexpr double kWildestError = 4;
constexpr double kStretchNs = 100e6;     // about half of what a request waits for
constexpr double kDriftGain = 1.0 / 64;  // per stretch

}  // namespace

void Calibration::Observe(double predicted_ns, double squares_ns2, double real_ns) {
  if (!(predicted_ns > 0) || !(squares_ns2 > 0)) return;
  const double expected_ns = predicted_ns * factor();
  ObserveStretch(expected_ns, squares_ns2 * factor() * factor(), real_ns);
  const double real = std::clamp(real_ns, expected_ns / kWildest, expected_ns * kWildest);

  const double error = (real - expected_ns) / factor();
  // The first comparisons weigh as much as each other, later ones fade.
  const double keep = error_weight_ < static_cast<double>(kLongest) ? 1.0 : 1 - kSlowGain;
  errors_ = errors_ * keep + std::min(error * error / squares_ns2, kWildestError);
  error_weight_ = error_weight_ * keep + 1;

  // The fast pair forgets by its gain; the slow one begins as fast as that and gets slower with every batch
  // it fits.
  const double slow_gain = std::max(kSlowGain, 1.0 / static_cast<double>(num_since_change_ + 8));
  fast_real_ = fast_real_ * (1 - kFastGain) + real;
  fast_predicted_ = fast_predicted_ * (1 - kFastGain) + predicted_ns;
  slow_real_ = slow_real_ * (1 - slow_gain) + real;
  slow_predicted_ = slow_predicted_ * (1 - slow_gain) + predicted_ns;
  ++num_since_change_;

  // The fast pair is an average of about 2 / gain - 1 batches: further off than four of its own deviations,
  // and by more than 5 %, the slow one no longer describes what happens.
  const double noise = deviation() * std::sqrt(kFastGain / (2 - kFastGain));
  const double ratio = std::log((fast_real_ / fast_predicted_) / factor());
  if (num_since_change_ >= 8 && std::abs(ratio) > 4 * noise + 0.05) {
    slow_real_ = fast_real_;
    slow_predicted_ = fast_predicted_;
    num_since_change_ = 0;
  }
}

void Calibration::ObserveStretch(double expected_ns, double squares_ns2, double real_ns) {
  stretch_real_ += std::min(real_ns, expected_ns * kWildest);
  stretch_expected_ += expected_ns;
  stretch_squares_ += squares_ns2;
  if (stretch_expected_ < kStretchNs) return;
  const double error = stretch_real_ / stretch_expected_ - 1;
  const double scatter2 =
      errors_ / error_weight_ * stretch_squares_ / (stretch_expected_ * stretch_expected_);
  drift2_ += kDriftGain * (error * error - scatter2 - drift2_);
  stretch_real_ = stretch_expected_ = stretch_squares_ = 0;
}

double Calibration::drift() const { return std::sqrt(std::max(drift2_, 0.0)); }

double Calibration::deviation() const { return std::sqrt(errors_ / error_weight_); }

}  // namespace headlight
