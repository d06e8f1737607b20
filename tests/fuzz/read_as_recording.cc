// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/read_as_recording.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "client/record/recording.h"
#include "client/record/verdict.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/promise.h"
#include "tests/testing/slow_crc32c.h"

namespace headlight::testing {
namespace {

using client::CompareExchanges;
using client::Outcome;

constexpr size_t kFirstFrame = 22;  // behind the line that a recording begins with
constexpr size_t kCrcBytes = 4, kFrameBytes = 8;
// Of an exchange in protobuf's memory, for each byte of the file.
constexpr size_t kMostGrowth = 64, kOfItself = 64 << 10;

struct Readings {
  int64_t exchanges = 0;
  bool whole = false;
};

void CheckExchange(const v1::RecordedExchange& exchange, const v1::RecordedExchange& before,
                   size_t file_bytes) {
  Check(exchange.SpaceUsedLong() <= kMostGrowth * file_bytes + kOfItself,
        "an exchange takes no more than its bytes let expect");
  Check(CompareExchanges(exchange, exchange).outcome == Outcome::kAgrees, "the same bits agree");
  const client::Verdict verdict = CompareExchanges(before, exchange);
  Check((verdict.outcome == Outcome::kAgrees) == verdict.reason.empty(), "what does not agree has a reason");
}

Readings ReadExchanges(std::span<const std::byte> bytes) {
  const MemoryFile file(bytes);
  Readings readings;
  const absl::StatusOr<int64_t> count = client::CountExchanges(file.path());
  absl::StatusOr<client::RecordingReader> reader = client::RecordingReader::Open(file.path());
  if (!reader.ok()) {
    CheckRefusal(reader.status());
    Check(bytes.empty() ? count.ok() && *count == 0 : count.status() == reader.status(),
          "what is no recording has no exchanges to count");
    return readings;
  }
  v1::RecordedExchange before;
  for (;; ++readings.exchanges) {
    absl::StatusOr<std::optional<v1::RecordedExchange>> next = reader->Next();
    if (!next.ok()) {
      Check(next.status().code() == absl::StatusCode::kDataLoss, "damage is a loss of data");
      CheckMessage(next.status());
      break;
    }
    readings.whole = !next->has_value();
    if (readings.whole) break;
    CheckExchange(**next, before, bytes.size());
    before = **std::move(next);
  }
  Check(!readings.whole || (count.ok() && *count == readings.exchanges),
        "as many exchanges are counted as are read");
  return readings;
}

// With the checksum of each frame that of what follows it.
std::vector<std::byte> WithMendedChecksums(std::span<const std::byte> bytes) {
  std::vector<std::byte> mended(bytes.begin(), bytes.end());
  for (size_t frame = kFirstFrame; frame + kFrameBytes <= mended.size();) {
    uint32_t size_bytes = 0;
    std::memcpy(&size_bytes, &mended[frame], sizeof(size_bytes));
    const size_t message = frame + kFrameBytes;
    if (size_bytes > mended.size() - message) break;
    const uint32_t crc32c = ExtendSlowCrc32c(0, mended.data() + message, size_bytes);
    std::memcpy(&mended[frame + kCrcBytes], &crc32c, sizeof(crc32c));
    frame = message + size_bytes;
  }
  return mended;
}

}  // namespace

bool ReadAsRecording(std::span<const std::byte> bytes) {
  const Readings readings = ReadExchanges(bytes);
  const Readings mended = ReadExchanges(WithMendedChecksums(bytes));
  Check(mended.exchanges >= readings.exchanges && (mended.whole || !readings.whole),
        "right checksums lose nothing");
  return readings.whole;
}

}  // namespace headlight::testing
