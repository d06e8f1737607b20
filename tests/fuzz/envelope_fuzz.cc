// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the envelope scanner, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/fuzz/scan_as_envelope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ScanAsEnvelope(std::as_bytes(std::span(data, size)));
  return 0;
}
