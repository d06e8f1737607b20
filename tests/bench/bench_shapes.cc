// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/bench_shapes.h"

#include <cstdio>
#include <fstream>
#include <numeric>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight::bench {
namespace {

absl::StatusOr<std::vector<int64_t>> ParseLengths(const std::string& text) {
  long batch = 0, first = 0, last = 0;
  int used = 0;
  if (std::sscanf(text.c_str(), "%ldx%ld..%ld%n", &batch, &first, &last, &used) != 3) {
    used = 0;
    if (std::sscanf(text.c_str(), "%ldx%ld%n", &batch, &first, &used) != 2) used = 0;
    last = first;
  }
  if (used != static_cast<int>(text.size()) || batch < 1 || first < 1 || last < first) {
    return absl::InvalidArgumentError(absl::StrCat("lengths: got '", text, "', wanted 8x128 or 64x1..64"));
  }
  std::vector<int64_t> lengths(batch);
  for (long i = 0; i < batch; ++i) lengths[i] = batch == 1 ? last : first + (last - first) * i / (batch - 1);
  return lengths;
}

absl::StatusOr<BenchShape> ParseLine(const std::string& line) {
  BenchShape shape;
  AttentionConfig& config = shape.config;
  std::istringstream in(line);
  in >> config.embed_dim >> config.num_heads >> config.num_kv_heads >> config.head_dim >> shape.mask >>
      shape.lengths_text;
  shape.causal = shape.mask == "causal";
  shape.left_mask = shape.mask == "left";
  config.alibi = shape.mask == "alibi";
  if (!in || !(shape.mask == "none" || shape.causal || shape.left_mask || config.alibi)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got '", line, "', wanted embed_dim num_heads num_kv_heads head_dim none|causal|alibi|left lengths"));
  }
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  config = config.Resolved();
  HEADLIGHT_ASSIGN_OR_RETURN(shape.lengths, ParseLengths(shape.lengths_text));
  return shape;
}

}  // namespace

int64_t BenchShape::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }

double BenchShape::ProjectionFlops() const {
  const double widths = 2.0 * config.q_width() + 2.0 * config.kv_width();  // of Wq and Wo, of Wk and Wv
  return 2.0 * tokens() * config.embed_dim * widths;
}

double BenchShape::AttentionFlops() const {
  double pairs = 0;
  for (int64_t length : lengths) {
    const double n = static_cast<double>(length);
    pairs += causal ? n * (n + 1) / 2 : n * n;
  }
  return 4.0 * pairs * config.q_width();
}

absl::StatusOr<std::vector<BenchShape>> ReadShapes(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("shapes: cannot read ", path));
  std::vector<BenchShape> shapes;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    absl::StatusOr<BenchShape> shape = ParseLine(line);
    if (!shape.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": ", std::string(shape.status().message())));
    }
    shapes.push_back(*std::move(shape));
  }
  return shapes;
}

}  // namespace headlight::bench
