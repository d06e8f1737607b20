// SPDX-License-Identifier: Apache-2.0
//
// The fuzzers' corpora, through the same code in builds that have no fuzzer: whatever one has found stays
// fixed.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "tests/fuzz/read_as_arrays.h"
#include "tests/fuzz/read_as_recording.h"
#include "tests/fuzz/read_as_safetensors.h"
#include "tests/fuzz/scan_as_envelope.h"
#include "tests/fuzz/scan_as_infer.h"

namespace headlight::testing {
namespace {

struct Counts {
  int taken = 0;
  int refused = 0;
};

// Every file of `corpus` through `read`, which ends the process if a promise is broken. A corpus that only
// knows one of the two outcomes leads a fuzzer nowhere.
Counts ReadCorpus(const std::string& corpus, bool (*read)(std::span<const std::byte> bytes)) {
  Counts counts;
  for (const auto& entry : std::filesystem::directory_iterator(HEADLIGHT_FUZZ_CORPUS "/" + corpus)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    ++(read(std::as_bytes(std::span(bytes))) ? counts.taken : counts.refused);
  }
  return counts;
}

TEST(FuzzCorpus, SafetensorsFilesKeepThePromisesOfTheReader) {
  const Counts counts = ReadCorpus("safetensors", ReadAsSafetensors);
  EXPECT_GE(counts.taken, 5);
  EXPECT_GE(counts.refused, 20);
}

TEST(FuzzCorpus, MessagesKeepThePromisesOfTheEnvelope) {
  const Counts counts = ReadCorpus("envelope", ScanAsEnvelope);
  EXPECT_GE(counts.taken, 8);
  EXPECT_GE(counts.refused, 12);
}

TEST(FuzzCorpus, InferenceRequestsKeepThePromisesOfTheScanner) {
  google::protobuf::LogSilencer quiet;  // it tells of texts that are not UTF-8
  const Counts counts = ReadCorpus("infer", ScanAsInfer);
  EXPECT_GE(counts.taken, 15);
  EXPECT_GE(counts.refused, 12);
}

TEST(FuzzCorpus, NpyFilesKeepThePromisesOfTheReader) {
  const Counts counts = ReadCorpus("npy", ReadAsNpy);
  EXPECT_GE(counts.taken, 8);
  EXPECT_GE(counts.refused, 20);
}

TEST(FuzzCorpus, ZipArchivesKeepThePromisesOfTheReader) {
  const Counts counts = ReadCorpus("zip", ReadAsZip);
  EXPECT_GE(counts.taken, 5);
  EXPECT_GE(counts.refused, 15);
}

TEST(FuzzCorpus, NpzArchivesKeepThePromisesOfTheReader) {
  const Counts counts = ReadCorpus("npz", ReadAsNpz);
  EXPECT_GE(counts.taken, 5);
  EXPECT_GE(counts.refused, 10);
}

TEST(FuzzCorpus, RecordingsKeepThePromisesOfTheReader) {
  google::protobuf::LogSilencer quiet;
  const Counts counts = ReadCorpus("recording", ReadAsRecording);
  EXPECT_GE(counts.taken, 7);
  EXPECT_GE(counts.refused, 15);
}

}  // namespace
}  // namespace headlight::testing
