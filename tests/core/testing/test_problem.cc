// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/test_problem.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"

namespace headlight::testing {
namespace {

constexpr float kMark = -98765.0f;           // no result of a test comes out as exactly this
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

bool IsMark(float value) { return value == kMark; }

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
  return absl::StrCat("embed_dim ", config.embed_dim, ", ", config.num_heads, " heads (", config.num_kv_heads,
                      " kv) of ", config.head_dim, ", kdim ", config.kdim, ", vdim ", config.vdim, ", scale ",
                      config.scale.value_or(0));
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
  layer.weights = RandomWeights(layer.config, rng());
  AttentionWeights& weights = layer.weights;
  for (std::vector<float>* bias : {&weights.bq, &weights.bk, &weights.bv, &weights.bo}) {
    if (OneIn(rng, 4)) bias->clear();
  }
  return layer;
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

TestBatch::TestBatch(const AttentionConfig& config, const std::vector<const TestSequence*>& sequences,
                     WeightsSink::Mode weights_mode)
    : cu_q_lens_{0}, cu_kv_lens_{0}, num_heads_(config.num_heads) {
  for (const TestSequence* sequence : sequences) Append(config, *sequence, weights_mode);
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

void TestBatch::Append(const AttentionConfig& config, const TestSequence& sequence,
                       WeightsSink::Mode weights_mode) {
  AppendTo(query_, sequence.query);
  AppendTo(key_, sequence.key);
  AppendTo(value_, sequence.value);
  cu_q_lens_.push_back(cu_q_lens_.back() + sequence.q_len);
  cu_kv_lens_.push_back(cu_kv_lens_.back() + sequence.kv_len);

  SequenceOptions options{.visibility = sequence.visibility, .mask = sequence.mask.View()};
  options.weights.mode = weights_mode;
  options.weights.query_stride = sequence.kv_len + kSinkPaddingElements;
  options.weights.head_stride = sequence.q_len * options.weights.query_stride + kSinkPaddingElements;
  const int64_t num_maps = weights_mode == WeightsSink::Mode::kFull   ? config.num_heads
                           : weights_mode == WeightsSink::Mode::kMean ? 1
                                                                      : 0;
  sinks_.emplace_back(num_maps * options.weights.head_stride + kTailElements, kMark);
  options.weights.data = sinks_.back().data();
  options_.push_back(options);
}

int64_t TestBatch::NumMaps(int64_t sequence) const {
  switch (options_[sequence].weights.mode) {
    case WeightsSink::Mode::kFull:
      return num_heads_;
    case WeightsSink::Mode::kMean:
      return 1;
    case WeightsSink::Mode::kNone:
    case WeightsSink::Mode::kTopK:
    case WeightsSink::Mode::kSummary:
      break;
  }
  return 0;
}

std::vector<float> TestBatch::Output(int64_t sequence) const {
  return {batch_.output.Row(cu_q_lens_[sequence]), batch_.output.Row(cu_q_lens_[sequence + 1])};
}

std::vector<float> TestBatch::Weights(int64_t sequence) const {
  const WeightsSink& sink = options_[sequence].weights;
  std::vector<float> weights;
  for (int64_t map = 0; map < NumMaps(sequence); ++map) {
    for (int64_t query = 0; query < batch_.q_len(sequence); ++query) {
      const float* row = sink.data + map * sink.head_stride + query * sink.query_stride;
      weights.insert(weights.end(), row, row + batch_.kv_len(sequence));
    }
  }
  return weights;
}

bool TestBatch::MarksIntact() const {
  if (!std::all_of(output_.end() - kTailElements, output_.end(), IsMark)) return false;
  for (size_t s = 0; s < sinks_.size(); ++s) {
    // With the results blanked, all that is left must still be marks.
    std::vector<float> sink = sinks_[s];
    const int64_t head_stride = options_[s].weights.head_stride;
    const int64_t query_stride = options_[s].weights.query_stride;
    for (int64_t map = 0; map < NumMaps(s); ++map) {
      for (int64_t query = 0; query < batch_.q_len(s); ++query) {
        std::fill_n(sink.begin() + map * head_stride + query * query_stride, batch_.kv_len(s), kMark);
      }
    }
    if (!std::all_of(sink.begin(), sink.end(), IsMark)) return false;
  }
  return true;
}

bool TestBatch::Untouched() const {
  return std::all_of(output_.begin(), output_.end(), IsMark) &&
         std::all_of(sinks_.begin(), sinks_.end(), [](const std::vector<float>& sink) {
           return std::all_of(sink.begin(), sink.end(), IsMark);
         });
}

}  // namespace headlight::testing
