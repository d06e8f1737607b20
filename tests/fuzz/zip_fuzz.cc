// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the reader of zip archives, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/fuzz/read_as_arrays.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ReadAsZip(std::as_bytes(std::span(data, size)));
  return 0;
}
