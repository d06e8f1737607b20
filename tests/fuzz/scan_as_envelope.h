// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be a protobuf message with payloads: the same under the fuzzer and in a
// test.
#ifndef HEADLIGHT_TESTS_FUZZ_SCAN_AS_ENVELOPE_H_
#define HEADLIGHT_TESTS_FUZZ_SCAN_AS_ENVELOPE_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// Takes the bytes apart as the server does, in one piece and in small ones, and compares the parts with what
// protobuf makes of the same bytes. Ends the process if they differ or contradict what envelope.h promises.
// Whether the scanner took them.
bool ScanAsEnvelope(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_SCAN_AS_ENVELOPE_H_
