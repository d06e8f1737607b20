// SPDX-License-Identifier: Apache-2.0
//
// The shapes that attention_bench runs, read from a data file; its format is described in shapes/default.txt.
#ifndef HEADLIGHT_TESTS_BENCH_BENCH_SHAPES_H_
#define HEADLIGHT_TESTS_BENCH_BENCH_SHAPES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/attention/config.h"

namespace headlight::bench {

struct BenchShape {
  AttentionConfig config;  // resolved
  std::string mask;        // as in the file
  bool causal = false;
  bool left_mask = false;        // -10000 on the first 64 keys
  std::string lengths_text;      // as in the file, such as "4x512"
  std::vector<int64_t> lengths;  // of each sequence

  int64_t tokens() const;
  // Multiply-adds count two. Scores and weighted values count only the (query, key) pairs that the mask
  // allows.
  double ProjectionFlops() const;
  double AttentionFlops() const;
};

// INVALID_ARGUMENT names the file and line.
absl::StatusOr<std::vector<BenchShape>> ReadShapes(const std::string& path);

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_BENCH_SHAPES_H_
