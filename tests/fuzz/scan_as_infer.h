// SPDX-License-Identifier: Apache-2.0
//
// What is done with bytes that may be a ModelInferRequest: the same under the fuzzer and in a test.
#ifndef HEADLIGHT_TESTS_FUZZ_SCAN_AS_INFER_H_
#define HEADLIGHT_TESTS_FUZZ_SCAN_AS_INFER_H_

#include <cstddef>
#include <span>

namespace headlight::testing {

// Takes the bytes apart as the server does, in one piece and in small ones, typed contents included, and
// compares all of it with what protobuf reads. Ends the process if they differ or contradict what
// infer_message.h and typed_contents.h promise. Whether the scanner took them.
bool ScanAsInfer(std::span<const std::byte> bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_FUZZ_SCAN_AS_INFER_H_
