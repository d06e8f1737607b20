// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the scanner of inference requests, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <google/protobuf/stubs/logging.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/fuzz/scan_as_infer.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);  // it tells of each text that is not UTF-8
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ScanAsInfer(std::as_bytes(std::span(data, size)));
  return 0;
}
