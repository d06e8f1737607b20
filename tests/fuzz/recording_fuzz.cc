// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the reader of recordings, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/fuzz/read_as_recording.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ReadAsRecording(std::as_bytes(std::span(data, size)));
  return 0;
}
