// SPDX-License-Identifier: Apache-2.0
#include "client/load/arrivals.h"

#include <cmath>

namespace headlight::client {

uint64_t RandomBits(uint64_t seed, uint64_t number) {
  uint64_t bits = seed * 0xd1342543de82ef95u + (number + 1) * 0x9e3779b97f4a7c15u;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

double UnitInterval(uint64_t bits) { return static_cast<double>((bits >> 11) + 1) * 0x1p-53; }

double ArrivalTimes::TimeOf(double arrivals) const {
  double rate = rate_, begin_s = 0, before = 0;  // of the stretch of constant rate, and arrivals before it
  for (const RateStep& step : steps_) {
    const double end_s = static_cast<double>(step.at.count()) / 1e9;
    const double until_end = before + (end_s - begin_s) * rate;
    if (arrivals < until_end) break;
    rate = step.rate;
    begin_s = end_s;
    before = until_end;
  }
  return begin_s + (arrivals - before) / rate;
}

std::chrono::nanoseconds ArrivalTimes::Next() {
  const uint64_t number = number_++;
  double arrivals = static_cast<double>(number);  // not a sum of gaps: rounding must not change the rate
  if (arrivals_ == Arrivals::kPoisson) {
    poisson_ -= std::log(UnitInterval(RandomBits(seed_, number)));
    arrivals = poisson_;
  }
  return std::chrono::nanoseconds(static_cast<int64_t>(TimeOf(arrivals) * 1e9));
}

}  // namespace headlight::client
