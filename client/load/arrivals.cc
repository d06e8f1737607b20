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

std::chrono::nanoseconds ArrivalTimes::Next() {
  const uint64_t number = number_++;
  double at_s = static_cast<double>(number) / rate_;  // not a sum: rounding must not change the rate
  if (arrivals_ == Arrivals::kPoisson) {
    poisson_s_ -= std::log(UnitInterval(RandomBits(seed_, number))) / rate_;
    at_s = poisson_s_;
  }
  return std::chrono::nanoseconds(static_cast<int64_t>(at_s * 1e9));
}

}  // namespace headlight::client
