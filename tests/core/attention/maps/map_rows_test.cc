// SPDX-License-Identifier: Apache-2.0
//
// Rows of weights in memory of every alignment. What they are is in kernel_test.cc and
// map_writer_test.cc.
#include "core/attention/maps/map_rows.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/tensor/buffer.h"
#include "tests/core/testing/effort.h"
#include "tests/core/testing/test_tiles.h"

namespace headlight {
namespace {

using testing::Rng;
using testing::TestTiles;
using testing::UniformInt;

constexpr float kMark = -7.0f;

// Memory for rows of `num_keys` weights, `gap` elements apart, the first one `offset` elements after a cache
// line; marks around and between them.
struct Sink {
  Sink(int64_t rows, int64_t num_keys, int64_t offset, int64_t gap, float value)
      : memory(Buffer::Allocate((offset + rows * (num_keys + gap) + 40) * int64_t{sizeof(float)})),
        size(offset + rows * (num_keys + gap) + 40),
        out{memory.floats() + offset, num_keys + gap, num_keys} {
    std::fill_n(memory.floats(), size, kMark);
    for (int64_t row = 0; row < rows; ++row) std::fill_n(out.data + row * out.stride, num_keys, value);
  }

  Buffer memory;
  int64_t size;
  RowsOfWeights out;
};

// Everything in `sink` is `expected(row, key)` in the rows and a mark elsewhere.
template <typename Expected>
void ExpectRows(const Sink& sink, int64_t rows, const Expected& expected) {
  const int64_t offset = sink.out.data - sink.memory.floats();
  for (int64_t i = 0; i < sink.size; ++i) {
    const int64_t row = (i - offset) / sink.out.stride;
    const int64_t key = (i - offset) % sink.out.stride;
    const bool is_weight = i >= offset && row < rows && key < sink.out.num_keys;
    ASSERT_EQ(sink.memory.floats()[i], is_weight ? expected(row, key) : kMark)
        << "element " << i << ", row " << row << ", key " << key;
  }
}

// Calls body(rows, num_keys, first key, end key, offset, gap) for many of them.
template <typename Body>
void ForEachLayout(Rng& rng, const Body& body) {
  for (int64_t num_keys = 1; num_keys <= 70; ++num_keys) {
    for (int64_t offset = 0; offset < 16; ++offset) {
      const int64_t gap = UniformInt(rng, 0, 1) * UniformInt(rng, 0, 20);
      body(UniformInt(rng, 1, 6), num_keys, int64_t{0}, UniformInt(rng, 0, num_keys), offset, gap);
    }
  }
  for (const int64_t num_keys : {511, 512, 513, 1100}) {
    for (const int64_t first_key : {0, 64, 448}) {
      for (const int64_t gap : {0, 3})
        body(3, num_keys, first_key, UniformInt(rng, first_key, num_keys), 5, gap);
    }
  }
}

TEST(WeightRowsTest, StreamsRowsOfAnyAlignment) {
  Rng rng = testing::MakeRng(0);
  ForEachLayout(rng, [&](int64_t rows, int64_t num_keys, int64_t first_key, int64_t end_key, int64_t offset,
                         int64_t gap) {
    SCOPED_TRACE(::testing::Message()
                 << rows << " rows of " << num_keys << " keys, gap " << gap << ", offset " << offset
                 << ", keys [" << first_key << ", " << end_key << ")");
    const TestTiles tiles(rng, rows + 1, first_key, end_key);
    const Sink sink(rows, num_keys, offset, gap, kMark);
    StreamRows(tiles.get(), 1, rows + 1, sink.out);
    FinishStreams();
    ASSERT_NO_FATAL_FAILURE(
        ExpectRows(sink, rows, [&](int64_t row, int64_t key) { return tiles.Weight(row + 1, key); }));
  });
}

TEST(WeightRowsTest, AddsRowsOfAnyAlignmentToAMean) {
  Rng rng = testing::MakeRng(0);
  ForEachLayout(rng, [&](int64_t rows, int64_t num_keys, int64_t first_key, int64_t end_key, int64_t offset,
                         int64_t gap) {
    SCOPED_TRACE(::testing::Message()
                 << rows << " rows of " << num_keys << " keys, gap " << gap << ", offset " << offset
                 << ", keys [" << first_key << ", " << end_key << ")");
    const TestTiles tiles(rng, rows, first_key, end_key);
    for (const bool is_first : {true, false}) {
      const Sink sink(rows, num_keys, offset, gap, 3.0f);
      AddToMean(tiles.get(), 0, rows, 0.5f, is_first, sink.out);
      ASSERT_NO_FATAL_FAILURE(ExpectRows(sink, rows, [&](int64_t row, int64_t key) {
        return 0.5f * tiles.Weight(row, key) + (is_first ? 0.0f : 3.0f);
      }));
    }
  });
}

}  // namespace
}  // namespace headlight
