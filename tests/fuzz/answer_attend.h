// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be an AttendRequest: and with what chance makes of one.
#ifndef HEADLIGHT_TESTS_FUZZ_ANSWER_ATTEND_H_
#define HEADLIGHT_TESTS_FUZZ_ANSWER_ATTEND_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// Decodes the bytes as the server does, for a layer "a" of embed_dim 4 and an encoder "e" of 10 token ids,
// and computes and answers what the codec lets through, unless it is large. Ends the process if that fails.
// Whether there was an answer. Not thread-safe.
bool AnswerAttend(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_ANSWER_ATTEND_H_
