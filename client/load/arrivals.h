// SPDX-License-Identifier: Apache-2.0
//
// When the requests of an open loop are meant to be sent: at a rate that no answer slows down.
#ifndef HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_
#define HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_

#include <chrono>
#include <cstdint>

namespace headlight::client {

enum class Arrivals {
  kPoisson,   // independent of each other, as from many users: exponential gaps
  kConstant,  // one every 1 / rate
};

// Scrambles a number into 64 random bits (splitmix64): randomness that depends on the seed and the number of
// a request alone, whichever thread asks.
uint64_t RandomBits(uint64_t seed, uint64_t number);

// `bits` as a number in (0, 1].
double UnitInterval(uint64_t bits);

// Arrival 0, 1, 2, ... of one run, the same for the same seed. Not thread-safe; `rate` is per second and
// positive.
class ArrivalTimes {
 public:
  ArrivalTimes(Arrivals arrivals, double rate, uint64_t seed)
      : arrivals_(arrivals), rate_(rate), seed_(seed) {}

  // Time of the next arrival since the start of the run; never less than the one before.
  std::chrono::nanoseconds Next();

 private:
  const Arrivals arrivals_;
  const double rate_;
  const uint64_t seed_;
  uint64_t number_ = 0;  // of the next arrival
  double poisson_s_ = 0;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_
