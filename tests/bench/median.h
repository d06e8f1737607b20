// SPDX-License-Identifier: Apache-2.0
//
// What a benchmark tells of several runs.
#ifndef HEADLIGHT_TESTS_BENCH_MEDIAN_H_
#define HEADLIGHT_TESTS_BENCH_MEDIAN_H_

#include <algorithm>
#include <vector>

namespace headlight::bench {

// Of at least one value; of an even number of them the upper one of the two in the middle.
inline double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_MEDIAN_H_
