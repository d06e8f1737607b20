// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/size_correction.h"

#include <algorithm>
#include <cmath>

namespace headlight {
namespace {

constexpr double kKeep = 1 - 1.0 / 256;  // of what was known of a size, at each ticket of that size
constexpr double kDoubt = 6;  // tickets that are taken to have been predicted well before the first came
constexpr double kWildestShare = 3;  // a disturbed batch counts as this much longer than expected, at most

}  // namespace

size_t SizeCorrection::SizeOf(double predicted_ns) {
  const double half_octave = 2 * std::log2(std::max(predicted_ns, 1e3) / 1e3);
  return std::min(static_cast<size_t>(half_octave), kSizes - 1);
}

double SizeCorrection::Factor(double predicted_ns) const {
  const Size& size = sizes_[SizeOf(predicted_ns)];
  const double doubt_ns = kDoubt * predicted_ns;
  return (size.real_ns + doubt_ns) / (size.predicted_ns + doubt_ns);
}

void SizeCorrection::Observe(std::span<const double> predicted_ns, double real_ns) {
  double expected_ns = 0;
  for (const double ns : predicted_ns) expected_ns += ns * Factor(ns);
  if (!(expected_ns > 0)) return;
  const double ratio = std::clamp(real_ns / expected_ns, 1 / kWildestShare, kWildestShare);
  // All factors first: tickets of one batch may be of one size.
  std::array<Size, kSizes> sums{};
  std::array<int, kSizes> counts{};
  for (const double ns : predicted_ns) {
    const size_t size = SizeOf(ns);
    sums[size].predicted_ns += ns;
    sums[size].real_ns += ns * Factor(ns) * ratio;
    ++counts[size];
  }
  for (size_t size = 0; size < kSizes; ++size) {
    if (counts[size] == 0) continue;
    const double keep = std::pow(kKeep, counts[size]);
    sizes_[size].predicted_ns = sizes_[size].predicted_ns * keep + sums[size].predicted_ns;
    sizes_[size].real_ns = sizes_[size].real_ns * keep + sums[size].real_ns;
  }
}

}  // namespace headlight
