// SPDX-License-Identifier: Apache-2.0
//
// When the requests of an open loop are meant to be sent: at a rate that no answer slows down.
#ifndef HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_
#define HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace headlight::client {

enum class Arrivals {
  kPoisson,   // independent of each other, as from many users: exponential gaps
  kConstant,  // one every 1 / rate
};

// From `at` after the start of the run on, so many arrive a second.
struct RateStep {
  std::chrono::nanoseconds at{0};
  double rate = 1;
};

// Scrambles a number into 64 random bits (splitmix64): randomness that depends on the seed and the number of
// a request alone, whichever thread asks.
uint64_t RandomBits(uint64_t seed, uint64_t number);

// `bits` as a number in (0, 1].
double UnitInterval(uint64_t bits);

// Arrival 0, 1, 2, ... of one run, the same for the same seed. Not thread-safe; rates are per second and
// positive, and each of `steps` is later than the one before.
class ArrivalTimes {
 public:
  ArrivalTimes(Arrivals arrivals, double rate, uint64_t seed, std::vector<RateStep> steps = {})
      : arrivals_(arrivals), rate_(rate), seed_(seed), steps_(std::move(steps)) {}

  // Time of the next arrival since the start of the run; never less than the one before.
  std::chrono::nanoseconds Next();

 private:
  double TimeOf(double arrivals) const;  // in seconds, when so many are expected to have arrived

  const Arrivals arrivals_;
  const double rate_;
  const uint64_t seed_;
  const std::vector<RateStep> steps_;
  uint64_t number_ = 0;  // of the next arrival
  double poisson_ = 0;   // time of the latest Poisson arrival, were the rate 1
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_ARRIVALS_H_
