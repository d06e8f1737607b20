// SPDX-License-Identifier: Apache-2.0
//
// The fuzzers' corpora, through the same code in builds that have no fuzzer: whatever one has found stays
// fixed.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "tests/fuzz/read_as_safetensors.h"

namespace headlight::testing {
namespace {

TEST(FuzzCorpus, SafetensorsFilesKeepThePromisesOfTheReader) {
  int num_read = 0, num_refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HEADLIGHT_FUZZ_CORPUS "/safetensors")) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    ++(ReadAsSafetensors(std::as_bytes(std::span(bytes))) ? num_read : num_refused);
  }
  // A corpus that only knows one of the two leads a fuzzer nowhere.
  EXPECT_GE(num_read, 5);
  EXPECT_GE(num_refused, 20);
}

}  // namespace
}  // namespace headlight::testing
