// SPDX-License-Identifier: Apache-2.0
#include "capacity/profile.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight::capacity {
namespace {

constexpr int kRounds = 4;            // of leaving out what is far off
constexpr double kFarOff = 4;         // typical errors
constexpr double kLeastError = 0.02;  // that is typical

double RelativeError(const Fit& fit, const Sample& sample) {
  return (fit.fixed_us + fit.scale * sample.estimate_us) / sample.real_us - 1;
}

// Minimises the weighted squares of RelativeError. Neither number comes out below 0: a fixed time that would
// is 0, and so is a scale.
void Solve(const std::vector<Sample>& samples, const std::vector<double>& weights, Fit& fit) {
  double s00 = 0, s01 = 0, s11 = 0, r0 = 0, r1 = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double x0 = 1 / samples[i].real_us;
    const double x1 = samples[i].estimate_us / samples[i].real_us;
    s00 += weights[i] * x0 * x0;
    s01 += weights[i] * x0 * x1;
    s11 += weights[i] * x1 * x1;
    r0 += weights[i] * x0;
    r1 += weights[i] * x1;
  }
  const double determinant = s00 * s11 - s01 * s01;
  if (determinant > 1e-9 * s00 * s11) {
    fit.fixed_us = (r0 * s11 - r1 * s01) / determinant;
    fit.scale = (r1 * s00 - r0 * s01) / determinant;
    if (fit.fixed_us >= 0 && fit.scale >= 0) return;
  }
  // Batches that are all alike do not tell what each of them takes from what requests take.
  const bool no_work = s11 <= 0 || fit.scale < 0;
  fit.fixed_us = no_work ? r0 / s00 : 0;
  fit.scale = no_work ? 0 : r1 / s11;
}

}  // namespace

absl::StatusOr<Fit> FitTimes(const std::vector<Sample>& samples) {
  if (samples.empty()) return absl::InvalidArgumentError("samples: got none, wanted at least one");
  for (const Sample& sample : samples) {
    if (sample.real_us > 0 && sample.estimate_us >= 0 && sample.batch_requests > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("samples: got a batch of ", sample.batch_requests,
                                                   " requests that took ", sample.real_us,
                                                   " us, wanted more than 0"));
  }
  Fit fit;
  std::vector<double> weights;
  for (const Sample& sample : samples) weights.push_back(1.0 / static_cast<double>(sample.batch_requests));
  for (int round = 0; round < kRounds; ++round) {
    Solve(samples, weights, fit);
    std::vector<double> errors;
    for (const Sample& sample : samples) errors.push_back(std::abs(RelativeError(fit, sample)));
    std::vector<double> sorted = errors;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const double far_off = kFarOff * std::max(*middle, kLeastError);
    for (size_t i = 0; i < samples.size(); ++i) {
      weights[i] = errors[i] > far_off ? 0 : 1.0 / static_cast<double>(samples[i].batch_requests);
    }
  }
  for (const Sample& sample : samples) fit.scatter.push_back(1 / (RelativeError(fit, sample) + 1));
  // What is far off is part of the time that batches take: the mean goes into the line.
  const double mean =
      std::accumulate(fit.scatter.begin(), fit.scatter.end(), 0.0) / static_cast<double>(fit.scatter.size());
  for (double& factor : fit.scatter) factor /= mean;
  fit.fixed_us *= mean;
  fit.scale *= mean;
  return fit;
}

}  // namespace headlight::capacity
