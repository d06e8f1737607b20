// SPDX-License-Identifier: Apache-2.0
//
// How what is fuzzed is held to its word: a promise that is broken ends the process, which a fuzzer keeps the
// input of.
#ifndef HEADLIGHT_TESTS_FUZZ_PROMISE_H_
#define HEADLIGHT_TESTS_FUZZ_PROMISE_H_

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/status.h"

namespace headlight::testing {

inline void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

// People read it in a terminal, and gRPC carries it in a trailer.
inline void CheckMessage(const absl::Status& status) {
  const std::string message(status.message());
  Check(!message.empty() && message.size() < 2048, "a message is short");
  Check(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }),
        "a message is printable");
}

// What a reader says of bytes that it does not take.
inline void CheckRefusal(const absl::Status& status) {
  Check(status.code() == absl::StatusCode::kInvalidArgument, "what is wrong is an invalid argument");
  CheckMessage(status);
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_PROMISE_H_
