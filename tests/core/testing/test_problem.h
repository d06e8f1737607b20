// SPDX-License-Identifier: Apache-2.0
//
// Random attention problems that own their memory: layers, sequences, and batches packed from sequences. What
// the tests of kernels compute on.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_TEST_PROBLEM_H_
#define HEADLIGHT_TESTS_CORE_TESTING_TEST_PROBLEM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/attention/batch.h"
#include "core/attention/config.h"
#include "core/attention/parameters.h"
#include "core/attention/reference.h"
#include "tests/core/testing/effort.h"

namespace headlight::testing {

// A resolved config and weights that fit it.
struct TestLayer {
  AttentionConfig config;
  AttentionParameters weights;
};

std::string Describe(const AttentionConfig& config);

// A layer with heads of `head_dim` and all else random: 1 to 8 heads, grouped or not, odd widths, with and
// without biases, own kdim and vdim, sometimes a scale of its own. At most 512 columns in all heads together.
TestLayer RandomLayer(Rng& rng, int64_t head_dim);

// Gives the layer, half of the time, some of: RoPE of any kind, ALiBi, softcap, windows, appended keys.
void AddRandomSemantics(Rng& rng, TestLayer& layer);

// Head widths worth a test: below, on and above the register widths, and the usual ones.
inline constexpr int64_t kHeadDims[] = {8, 16, 17, 40, 64, 80, 96, 128, 256};

// An explicit mask in memory of its own. Its f32 elements begin at an odd address, as they may on the wire.
class TestMask {
 public:
  TestMask() = default;  // no mask
  TestMask(DType dtype, int64_t num_heads, int64_t q_len, int64_t kv_len);

  // `num_heads` is 1 for a mask that all heads share.
  void SetAllowed(int64_t head, int64_t query, int64_t key, bool allowed);  // kBool
  void SetTerm(int64_t head, int64_t query, int64_t key, float term);       // kF32

  MaskView View() const;

 private:
  int64_t Offset(int64_t head, int64_t query, int64_t key) const;

  DType dtype_ = DType::kBool;
  int64_t num_heads_ = 0;
  int64_t head_stride_ = 0;
  int64_t query_stride_ = 0;
  std::vector<char> bytes_;
};

// The inputs of one sequence and what it asks for.
struct TestSequence {
  int64_t q_len = 0;
  int64_t kv_len = 0;
  std::vector<float> query;  // [q_len, embed_dim]
  std::vector<float> key;    // [kv_len, kdim]
  std::vector<float> value;  // [kv_len, vdim]
  Visibility visibility;
  TestMask mask;
};

std::string Describe(const TestSequence& sequence);

// Inputs uniform in [-amplitude, amplitude]; every position visible and no mask.
TestSequence RandomInputs(Rng& rng, const AttentionConfig& config, int64_t q_len, int64_t kv_len,
                          float amplitude = 1.0f);

// A boolean or additive mask, shared by the heads or not. Some of its rows forbid every key; an additive one
// holds large negative numbers too.
TestMask RandomMask(Rng& rng, int64_t num_heads, int64_t q_len, int64_t kv_len);

// Lengths between 1 and max_len, often at 1 or beside a multiple of 64, equal or not; sometimes causal,
// windowed or masked, or all of it.
TestSequence RandomSequence(Rng& rng, const AttentionConfig& config, int64_t max_len);

// What a sequence asks for beside its output, as WeightsSink has it.
struct SinkRequest {
  WeightsSink::Mode mode = WeightsSink::Mode::kNone;
  std::vector<int64_t> heads = {};  // empty: all
  int64_t query_begin = 0;          // both 0: all
  int64_t query_end = 0;
  int64_t top_k = 5;
  int64_t grid_rows = kMaxGridCells;
  int64_t grid_cols = kMaxGridCells;
  bool queries_outermost = false;  // memory as [query, head, ...] instead of [head, query, ...]
};

std::string Describe(const SinkRequest& request);

inline constexpr WeightsSink::Mode kSinkModes[] = {WeightsSink::Mode::kNone,    WeightsSink::Mode::kFull,
                                                   WeightsSink::Mode::kMean,    WeightsSink::Mode::kTopK,
                                                   WeightsSink::Mode::kSummary, WeightsSink::Mode::kGrid};

// Any mode; all heads or some in any order, all queries or a range that may be empty or reach beyond the end;
// more top keys than there are, sometimes.
SinkRequest RandomSink(Rng& rng, const AttentionConfig& config, const TestSequence& sequence);

// What one sequence gets. Of the sink what its mode has, in the order of its rows: heads as asked, then
// queries.
struct TestResults {
  std::vector<float> output;   // [q_len, embed_dim]
  std::vector<float> weights;  // WeightsSink::data; kFull [heads, queries, keys], kMean [queries, keys],
                               // kTopK [heads, queries, top_k], kSummary [heads, kNumHeadStatistics],
                               // kGrid [heads, rows of cells, cells]
  std::vector<int32_t> keys;   // kTopK [heads, queries, top_k]
  std::vector<float> received_mass;  // kSummary [heads, keys]
};

// Bit by bit: NaNs equal themselves and -0 does not equal 0.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b);
bool SameBits(const TestResults& a, const TestResults& b);

// Some sequences packed into one AttentionBatch, with memory for inputs, outputs and weights. All memory that
// the layer must not touch (between and behind the rows of the weights, behind the output) holds a mark.
class TestBatch {
 public:
  // One request for each sequence, or the same mode for all of them.
  TestBatch(const AttentionConfig& config, const std::vector<const TestSequence*>& sequences,
            const std::vector<SinkRequest>& requests);
  TestBatch(const AttentionConfig& config, const std::vector<const TestSequence*>& sequences,
            WeightsSink::Mode mode)
      : TestBatch(config, sequences, std::vector<SinkRequest>(sequences.size(), SinkRequest{mode})) {}
  TestBatch(const TestBatch&) = delete;
  TestBatch& operator=(const TestBatch&) = delete;

  AttentionBatch& batch() { return batch_; }
  const AttentionBatch& batch() const { return batch_; }
  SequenceOptions& options(int64_t sequence) { return options_[sequence]; }

  TestResults Results(int64_t sequence) const;
  std::vector<float> Output(int64_t sequence) const { return Results(sequence).output; }
  std::vector<float> Weights(int64_t sequence) const { return Results(sequence).weights; }

  // Whether nothing was written outside of the results, respectively nothing at all.
  bool MarksIntact() const;
  bool Untouched() const;

 private:
  // The memory of one sink.
  struct Sink {
    std::vector<int64_t> heads;
    std::vector<float> data;
    std::vector<int32_t> keys;
    std::vector<float> received_mass;
  };
  // Where the results of a sink are: rows of `length` elements.
  struct Rows {
    int64_t maps = 0;
    int64_t rows = 0;
    int64_t length = 0;
    int64_t map_stride = 0;
    int64_t row_stride = 0;
  };

  void Append(const TestSequence& sequence, const SinkRequest& request);
  Rows DataRows(int64_t sequence) const;          // of data, and of keys for kTopK
  Rows ReceivedMassRows(int64_t sequence) const;  // none but for kSummary
  int64_t NumKeys(int64_t sequence) const;        // appended ones included
  static bool IsUntouched(const Sink& sink);

  std::vector<float> query_;
  std::vector<float> key_;
  std::vector<float> value_;
  std::vector<float> output_;
  std::vector<Sink> sinks_;
  std::vector<int64_t> cu_q_lens_;
  std::vector<int64_t> cu_kv_lens_;
  std::vector<SequenceOptions> options_;
  int64_t num_heads_ = 0;
  int64_t num_appended_keys_ = 0;
  AttentionBatch batch_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_TEST_PROBLEM_H_
