// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/test_problem.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight::testing {
namespace {

constexpr int32_t kMark = -98765;            // no result of a test comes out as exactly this
constexpr int64_t kTailElements = 1024;      // marks behind a tensor; beyond any register or tile row
constexpr int64_t kSinkPaddingElements = 5;  // marks between rows of weights

std::vector<float> RandomFloats(Rng& rng, int64_t size, float amplitude) {
  std::uniform_real_distribution<float> distribution(-amplitude, amplitude);
  std::vector<float> values(size);
  for (float& value : values) value = distribution(rng);
  return values;
}

void AppendTo(std::vector<float>& all, const std::vector<float>& part) {
  all.insert(all.end(), part.begin(), part.end());
}

template <typename T>
bool AllMarks(std::span<const T> values) {
  return std::all_of(values.begin(), values.end(), [](T value) { return value == static_cast<T>(kMark); });
}

int64_t RandomLength(Rng& rng, int64_t max_len) {
  if (OneIn(rng, 6)) return 1;
  if (max_len > 64 && OneIn(rng, 3))
    return std::min(UniformInt(rng, 1, max_len / 64) * 64 + UniformInt(rng, -1, 1), max_len);
  return UniformInt(rng, 1, max_len);
}

float RandomMaskTerm(Rng& rng) {
  if (OneIn(rng, 4)) return -std::numeric_limits<float>::infinity();
  if (OneIn(rng, 8)) return -1e9f;
  if (OneIn(rng, 16)) return std::numeric_limits<float>::lowest();
  return std::uniform_real_distribution<float>(-4.0f, 4.0f)(rng);
}

std::string DescribeWindow(const std::string& name, std::optional<int64_t> window) {
  return window ? absl::StrCat(name, *window) : "";
}

}  // namespace

std::string Describe(const AttentionConfig& config) {
  std::string text =
      absl::StrCat(Name(config.precision), ", embed_dim ", config.embed_dim, ", ", config.num_heads,
                   " heads (", config.num_kv_heads, " kv) of ", config.head_dim, ", kdim ", config.kdim,
                   ", vdim ", config.vdim, ", scale ", config.scale.value_or(0));
  if (config.rope) {
    absl::StrAppend(&text, ", RoPE of ", config.rope->rotary_dim,
                    config.rope->interleaved ? " interleaved" : "", ", scaling ",
                    static_cast<int>(config.rope->scaling), " by ", config.rope->factor);
  }
  if (config.alibi) absl::StrAppend(&text, ", ALiBi");
  if (config.logit_softcap != 0) absl::StrAppend(&text, ", softcap ", config.logit_softcap);
  absl::StrAppend(&text, DescribeWindow(", window_left ", config.window_left),
                  DescribeWindow(", window_right ", config.window_right));
  if (config.add_bias_kv) absl::StrAppend(&text, ", bias_kv");
  if (config.add_zero_attn) absl::StrAppend(&text, ", zero_attn");
  return text;
}

TestLayer RandomLayer(Rng& rng, int64_t head_dim) {
  constexpr int64_t kMaxHeadColumns = 512;
  AttentionConfig config;
  config.head_dim = head_dim;
  config.num_heads = UniformInt(rng, 1, std::min<int64_t>(8, kMaxHeadColumns / head_dim));
  do {
    config.num_kv_heads = UniformInt(rng, 1, config.num_heads);
  } while (config.num_heads % config.num_kv_heads != 0);
  config.embed_dim = OneIn(rng, 2) ? config.num_heads * head_dim : UniformInt(rng, 1, 300);
  if (OneIn(rng, 2)) config.kdim = UniformInt(rng, 1, 200);
  if (OneIn(rng, 2)) config.vdim = UniformInt(rng, 1, 200);
  if (OneIn(rng, 4)) config.scale = std::uniform_real_distribution<double>(-0.5, 0.5)(rng);

  TestLayer layer{config.Resolved(), {}};
  layer.weights = RandomParameters(layer.config, rng());
  AttentionParameters& weights = layer.weights;
  for (std::vector<float>* bias : {&weights.bq, &weights.bk, &weights.bv, &weights.bo}) {
    if (OneIn(rng, 4)) bias->clear();
  }
  return layer;
}

namespace {

RopeConfig RandomRope(Rng& rng, int64_t head_dim) {
  RopeConfig rope;
  rope.theta = OneIn(rng, 2) ? 10000.0 : 500.0;
  rope.rotary_dim = OneIn(rng, 2) ? head_dim / 2 * 2 : UniformInt(rng, 1, head_dim / 2) * 2;
  rope.interleaved = OneIn(rng, 2);
  rope.scaling = static_cast<RopeConfig::Scaling>(UniformInt(rng, 0, 3));
  if (rope.scaling == RopeConfig::Scaling::kNtk && rope.rotary_dim == 2) rope.scaling = {};
  if (rope.scaling != RopeConfig::Scaling::kNone)
    rope.factor = std::uniform_real_distribution<double>(1, 8)(rng);
  rope.original_max_len = UniformInt(rng, 16, 200);
  return rope;
}

}  // namespace

void AddRandomSemantics(Rng& rng, TestLayer& layer) {
  if (OneIn(rng, 2)) return;
  AttentionConfig& config = layer.config;
  if (OneIn(rng, 2) && config.head_dim > 1) config.rope = RandomRope(rng, config.head_dim);
  config.alibi = OneIn(rng, 3);
  if (OneIn(rng, 3)) config.logit_softcap = std::uniform_real_distribution<double>(0.5, 30)(rng);
  if (OneIn(rng, 4)) config.window_left = UniformInt(rng, 0, 100);
  if (OneIn(rng, 4)) config.window_right = UniformInt(rng, 0, 100);
  config.add_bias_kv = OneIn(rng, 3);
  config.add_zero_attn = OneIn(rng, 3);
  if (!config.add_bias_kv) return;
  layer.weights.bias_k = RandomFloats(rng, config.kv_width(), 1.0f);
  layer.weights.bias_v = RandomFloats(rng, config.kv_width(), 1.0f);
}

TestMask::TestMask(DType dtype, int64_t num_heads, int64_t q_len, int64_t kv_len)
    : dtype_(dtype),
      num_heads_(num_heads),
      head_stride_(q_len * (kv_len + 3)),
      query_stride_(kv_len + 3),  // wider than the sequence, as the masks of ragged batches are
      bytes_(1 + num_heads * head_stride_ * SizeOf(dtype), dtype == DType::kBool ? 1 : 0) {}

int64_t TestMask::Offset(int64_t head, int64_t query, int64_t key) const {
  return 1 + (head * head_stride_ + query * query_stride_ + key) * SizeOf(dtype_);
}

void TestMask::SetAllowed(int64_t head, int64_t query, int64_t key, bool allowed) {
  bytes_[Offset(head, query, key)] = allowed ? 1 : 0;
}

void TestMask::SetTerm(int64_t head, int64_t query, int64_t key, float term) {
  std::memcpy(&bytes_[Offset(head, query, key)], &term, sizeof(term));
}

MaskView TestMask::View() const {
  if (bytes_.empty()) return {};
  return {bytes_.data() + 1, dtype_, num_heads_ == 1 ? 0 : head_stride_, query_stride_};
}

std::string Describe(const TestSequence& sequence) {
  const Visibility& visibility = sequence.visibility;
  return absl::StrCat(sequence.q_len, " queries, ", sequence.kv_len, " keys",
                      visibility.causal ? ", causal" : "",
                      DescribeWindow(", window_left ", visibility.window_left),
                      DescribeWindow(", window_right ", visibility.window_right),
                      sequence.mask.View().empty() ? "" : ", masked");
}

TestSequence RandomInputs(Rng& rng, const AttentionConfig& config, int64_t q_len, int64_t kv_len,
                          float amplitude) {
  TestSequence sequence;
  sequence.q_len = q_len;
  sequence.kv_len = kv_len;
  sequence.query = RandomFloats(rng, q_len * config.embed_dim, amplitude);
  sequence.key = RandomFloats(rng, kv_len * config.kdim, amplitude);
  sequence.value = RandomFloats(rng, kv_len * config.vdim, amplitude);
  return sequence;
}

TestMask RandomMask(Rng& rng, int64_t num_heads, int64_t q_len, int64_t kv_len) {
  const int64_t mask_heads = OneIn(rng, 2) ? 1 : num_heads;
  const DType dtype = OneIn(rng, 2) ? DType::kBool : DType::kF32;
  TestMask mask(dtype, mask_heads, q_len, kv_len);
  for (int64_t head = 0; head < mask_heads; ++head) {
    for (int64_t query = 0; query < q_len; ++query) {
      const bool forbid_all = OneIn(rng, 8);
      for (int64_t key = 0; key < kv_len; ++key) {
        if (dtype == DType::kBool) {
          mask.SetAllowed(head, query, key, !forbid_all && !OneIn(rng, 3));
        } else {
          mask.SetTerm(head, query, key,
                       forbid_all ? -std::numeric_limits<float>::infinity() : RandomMaskTerm(rng));
        }
      }
    }
  }
  return mask;
}

TestSequence RandomSequence(Rng& rng, const AttentionConfig& config, int64_t max_len) {
  const int64_t q_len = RandomLength(rng, max_len);
  const int64_t kv_len = OneIn(rng, 2) ? q_len : RandomLength(rng, max_len);
  TestSequence sequence = RandomInputs(rng, config, q_len, kv_len);
  sequence.visibility.causal = OneIn(rng, 3);
  if (OneIn(rng, 5)) sequence.visibility.window_left = UniformInt(rng, 0, max_len);
  if (OneIn(rng, 5)) sequence.visibility.window_right = UniformInt(rng, 0, max_len);
  if (OneIn(rng, 3)) sequence.mask = RandomMask(rng, config.num_heads, q_len, kv_len);
  return sequence;
}

std::string Describe(const SinkRequest& request) {
  static constexpr const char* kNames[] = {"none", "full", "mean", "top-k", "summary", "grid"};
  std::string text = kNames[static_cast<int>(request.mode)];
  if (request.mode == WeightsSink::Mode::kTopK) absl::StrAppend(&text, " ", request.top_k);
  if (request.mode == WeightsSink::Mode::kGrid) {
    absl::StrAppend(&text, " ", request.grid_rows, "x", request.grid_cols);
  }
  if (!request.heads.empty()) absl::StrAppend(&text, " of heads ", absl::StrJoin(request.heads, " "));
  if (request.query_end > 0) {
    absl::StrAppend(&text, " of queries [", request.query_begin, ", ", request.query_end, ")");
  }
  return text;
}

SinkRequest RandomSink(Rng& rng, const AttentionConfig& config, const TestSequence& sequence) {
  SinkRequest request;
  request.mode = kSinkModes[UniformInt(rng, 0, std::size(kSinkModes) - 1)];
  if (OneIn(rng, 2)) {
    request.heads.resize(config.num_heads);
    std::iota(request.heads.begin(), request.heads.end(), int64_t{0});
    std::shuffle(request.heads.begin(), request.heads.end(), rng);
    request.heads.resize(UniformInt(rng, 1, config.num_heads));
  }
  if (OneIn(rng, 2)) {
    request.query_begin = UniformInt(rng, 0, sequence.q_len - 1);
    request.query_end = UniformInt(rng, request.query_begin, sequence.q_len + 3);
  }
  const int64_t keys = sequence.kv_len + config.num_appended_keys();
  request.top_k = OneIn(rng, 4) ? UniformInt(rng, 1, keys + 3) : UniformInt(rng, 1, 8);
  if (OneIn(rng, 2)) request.grid_rows = UniformInt(rng, 1, kMaxGridCells);
  if (OneIn(rng, 2)) request.grid_cols = UniformInt(rng, 1, kMaxGridCells);
  request.queries_outermost = OneIn(rng, 2);
  return request;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

bool SameBits(const TestResults& a, const TestResults& b) {
  return SameBits(a.output, b.output) && SameBits(a.weights, b.weights) && a.keys == b.keys &&
         SameBits(a.received_mass, b.received_mass);
}

TestBatch::TestBatch(const AttentionConfig& config, const std::vector<const TestSequence*>& sequences,
                     const std::vector<SinkRequest>& requests)
    : cu_q_lens_{0},
      cu_kv_lens_{0},
      num_heads_(config.num_heads),
      num_appended_keys_(config.num_appended_keys()) {
  for (size_t i = 0; i < sequences.size(); ++i) Append(*sequences[i], requests[i]);
  const int64_t q_tokens = cu_q_lens_.back();
  const int64_t kv_tokens = cu_kv_lens_.back();
  output_.assign(q_tokens * config.embed_dim + kTailElements, kMark);
  batch_.query = {query_.data(), q_tokens, config.embed_dim, config.embed_dim};
  batch_.key = {key_.data(), kv_tokens, config.kdim, config.kdim};
  batch_.value = {value_.data(), kv_tokens, config.vdim, config.vdim};
  batch_.output = {output_.data(), q_tokens, config.embed_dim, config.embed_dim};
  batch_.cu_q_lens = cu_q_lens_;
  batch_.cu_kv_lens = cu_kv_lens_;
  batch_.sequences = options_;
}

void TestBatch::Append(const TestSequence& sequence, const SinkRequest& request) {
  AppendTo(query_, sequence.query);
  AppendTo(key_, sequence.key);
  AppendTo(value_, sequence.value);
  cu_q_lens_.push_back(cu_q_lens_.back() + sequence.q_len);
  cu_kv_lens_.push_back(cu_kv_lens_.back() + sequence.kv_len);

  const auto index = static_cast<int64_t>(options_.size());
  options_.push_back({.visibility = sequence.visibility, .mask = sequence.mask.View()});
  Sink& memory = sinks_.emplace_back(Sink{.heads = request.heads});
  WeightsSink& sink = options_.back().weights;
  sink.mode = request.mode;
  sink.heads = memory.heads;  // moving the sink keeps the elements where they are
  sink.query_begin = request.query_begin;
  sink.query_end = request.query_end;
  sink.top_k = request.top_k;
  sink.grid_rows = request.grid_rows;
  sink.grid_cols = request.grid_cols;
  sink.received_stride = NumKeys(index) + kSinkPaddingElements;
  const Rows rows = DataRows(index);
  const int64_t inner = rows.length + kSinkPaddingElements;
  const int64_t inner_count = std::max<int64_t>(1, request.queries_outermost ? rows.maps : rows.rows);
  const int64_t outer = inner_count * inner + kSinkPaddingElements;
  sink.head_stride = request.queries_outermost ? inner : outer;
  sink.query_stride = request.queries_outermost ? outer : inner;

  const int64_t outer_count = request.queries_outermost ? rows.rows : rows.maps;
  memory.data.assign(outer_count * outer + kTailElements, kMark);
  memory.keys.assign(memory.data.size(), kMark);
  memory.received_mass.assign(rows.maps * sink.received_stride + kTailElements, kMark);
  sink.data = memory.data.data();
  sink.keys = memory.keys.data();
  sink.received_mass = memory.received_mass.data();
}

int64_t TestBatch::NumKeys(int64_t sequence) const {
  return cu_kv_lens_[sequence + 1] - cu_kv_lens_[sequence] + num_appended_keys_;
}

TestBatch::Rows TestBatch::DataRows(int64_t sequence) const {
  const WeightsSink& sink = options_[sequence].weights;
  const int64_t q_len = cu_q_lens_[sequence + 1] - cu_q_lens_[sequence];
  const int64_t queries = sink.QueryEnd(q_len) - sink.QueryBegin(q_len);
  const int64_t heads = sink.NumHeads(num_heads_);
  switch (sink.mode) {
    case WeightsSink::Mode::kNone:
      break;
    case WeightsSink::Mode::kFull:
      return {heads, queries, NumKeys(sequence), sink.head_stride, sink.query_stride};
    case WeightsSink::Mode::kMean:
      return {1, queries, NumKeys(sequence), sink.head_stride, sink.query_stride};
    case WeightsSink::Mode::kTopK:
      return {heads, queries, sink.top_k, sink.head_stride, sink.query_stride};
    case WeightsSink::Mode::kSummary:
      return {heads, 1, kNumHeadStatistics, sink.head_stride, 0};
    case WeightsSink::Mode::kGrid:
      return {heads, sink.GridRows(q_len), sink.GridCols(NumKeys(sequence)), sink.head_stride,
              sink.query_stride};
  }
  return {};
}

TestBatch::Rows TestBatch::ReceivedMassRows(int64_t sequence) const {
  const WeightsSink& sink = options_[sequence].weights;
  if (sink.mode != WeightsSink::Mode::kSummary) return {};
  return {sink.NumHeads(num_heads_), 1, NumKeys(sequence), sink.received_stride, 0};
}

namespace {

// The elements of the rows, one row after the other; marked in `memory` when they are taken.
template <typename T, typename Rows>
std::vector<T> Take(std::vector<T>& memory, const Rows& rows) {
  std::vector<T> taken;
  for (int64_t map = 0; map < rows.maps; ++map) {
    for (int64_t row = 0; row < rows.rows; ++row) {
      const auto begin = memory.begin() + map * rows.map_stride + row * rows.row_stride;
      taken.insert(taken.end(), begin, begin + rows.length);
      std::fill_n(begin, rows.length, static_cast<T>(kMark));
    }
  }
  return taken;
}

}  // namespace

TestResults TestBatch::Results(int64_t sequence) const {
  Sink sink = sinks_[sequence];
  TestResults results;
  results.output = {batch_.output.Row(cu_q_lens_[sequence]), batch_.output.Row(cu_q_lens_[sequence + 1])};
  results.weights = Take(sink.data, DataRows(sequence));
  if (options_[sequence].weights.mode == WeightsSink::Mode::kTopK) {
    results.keys = Take(sink.keys, DataRows(sequence));
  }
  results.received_mass = Take(sink.received_mass, ReceivedMassRows(sequence));
  return results;
}

bool TestBatch::MarksIntact() const {
  if (!AllMarks(std::span(output_).last(kTailElements))) return false;
  for (size_t s = 0; s < sinks_.size(); ++s) {
    // Without the results, all that is left must still be marks.
    Sink sink = sinks_[s];
    Take(sink.data, DataRows(s));
    if (options_[s].weights.mode == WeightsSink::Mode::kTopK) Take(sink.keys, DataRows(s));
    Take(sink.received_mass, ReceivedMassRows(s));
    if (!IsUntouched(sink)) return false;
  }
  return true;
}

bool TestBatch::Untouched() const {
  return AllMarks(std::span(output_)) && std::all_of(sinks_.begin(), sinks_.end(), IsUntouched);
}

bool TestBatch::IsUntouched(const Sink& sink) {
  return AllMarks(std::span(sink.data)) && AllMarks(std::span(sink.keys)) &&
         AllMarks(std::span(sink.received_mass));
}

}  // namespace headlight::testing
