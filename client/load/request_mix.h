// SPDX-License-Identifier: Apache-2.0
//
// What chance decides about each request of a load test: which of the prepared requests it is, how long its
// caller waits, and whether that caller goes away before.
#ifndef HEADLIGHT_CLIENT_LOAD_REQUEST_MIX_H_
#define HEADLIGHT_CLIENT_LOAD_REQUEST_MIX_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace headlight::client {

struct RequestChoice {
  size_t request;  // index into the pool of prepared requests
  std::chrono::milliseconds timeout;
  std::optional<std::chrono::nanoseconds> cancel_after;  // absent: is not cancelled
};

struct RequestMix {
  size_t pool_size = 1;  // at least 1
  std::vector<std::chrono::milliseconds> timeouts = {
      std::chrono::seconds(10)};                // at least one; equally likely
  double cancel_ratio = 0;                      // share of requests, 0 to 1
  std::chrono::milliseconds cancel_within{10};  // those are cancelled at a time uniform over this
  uint64_t seed = 0;

  // The same for the same seed and number, whoever asks.
  RequestChoice Choose(int64_t number) const;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_REQUEST_MIX_H_
