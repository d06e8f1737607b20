// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be a recording: the same under the fuzzer and in tests.
#ifndef HEADLIGHT_TESTS_FUZZ_READ_AS_RECORDING_H_
#define HEADLIGHT_TESTS_FUZZ_READ_AS_RECORDING_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// Every exchange up to the end or the first damage, and what `headlight verify` says of it; then the same with
// the checksums mended, so that chance comes past them. Ends the process if what was read contradicts what the
// reader's header promises, and tells whether the bytes are a whole recording as they are.
bool ReadAsRecording(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_READ_AS_RECORDING_H_
