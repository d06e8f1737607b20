// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be a file of arrays: the same under the fuzzers and in tests. Each ends
// the process if what was read contradicts what the reader's header promises, and tells whether the bytes are
// such a file.
#ifndef HEADLIGHT_TESTS_FUZZ_READ_AS_ARRAYS_H_
#define HEADLIGHT_TESTS_FUZZ_READ_AS_ARRAYS_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// As a tensor, a mask and ids, from a stream that tells its size and one that does not.
bool ReadAsNpy(std::span<const std::byte> bytes);

// The directory, and every entry to its end.
bool ReadAsZip(std::span<const std::byte> bytes);

// Every array, as each kind that there is.
bool ReadAsNpz(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_READ_AS_ARRAYS_H_
