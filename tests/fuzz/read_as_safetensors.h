// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be a safetensors file: the same under the fuzzer and in a test.
#ifndef HEADLIGHT_TESTS_FUZZ_READ_AS_SAFETENSORS_H_
#define HEADLIGHT_TESTS_FUZZ_READ_AS_SAFETENSORS_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// Reads the bytes as a file, and all of its tensors. Ends the process if what was read contradicts what
// safetensors.h promises. Whether the bytes are a file.
bool ReadAsSafetensors(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_READ_AS_SAFETENSORS_H_
