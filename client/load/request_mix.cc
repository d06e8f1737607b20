// SPDX-License-Identifier: Apache-2.0
#include "client/load/request_mix.h"

#include "client/load/arrivals.h"

namespace headlight::client {
namespace {

// Apart from the seeds of the arrivals, which scramble the same numbers.
enum Purpose : uint64_t { kWhich = 0x51, kTimeout = 0x52, kCancel = 0x53, kCancelTime = 0x54 };

uint64_t BitsFor(uint64_t seed, Purpose purpose, int64_t number) {
  return RandomBits(RandomBits(seed, purpose), static_cast<uint64_t>(number));
}

size_t Below(size_t end, uint64_t bits) {
  return static_cast<size_t>(((bits >> 32) * static_cast<uint64_t>(end)) >> 32);
}

}  // namespace

RequestChoice RequestMix::Choose(int64_t number) const {
  RequestChoice choice{.request = 0, .timeout = timeouts.front()};
  if (pool_size > 1) choice.request = Below(pool_size, BitsFor(seed, kWhich, number));
  if (timeouts.size() > 1) choice.timeout = timeouts[Below(timeouts.size(), BitsFor(seed, kTimeout, number))];
  if (cancel_ratio > 0 && UnitInterval(BitsFor(seed, kCancel, number)) <= cancel_ratio) {
    const double share = UnitInterval(BitsFor(seed, kCancelTime, number));
    choice.cancel_after = std::chrono::nanoseconds(
        static_cast<int64_t>(share * 1e6 * static_cast<double>(cancel_within.count())));
  }
  return choice;
}

}  // namespace headlight::client
