// SPDX-License-Identifier: Apache-2.0
#include "tests/server/attend_fixtures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>

#include "core/attention/batch.h"
#include "core/attention/reference.h"
#include "core/tensor/convert.h"

namespace headlight::testing {
namespace {

// One input as the reference wants it: packed rows, and the row of the request from which each came.
struct PackedInput {
  std::vector<float> rows;
  std::vector<int64_t> cu_lens = {0};
  std::vector<int64_t> first_row;  // of each sequence, in the request
  int64_t max_len = 0;             // padded in the dense form, longest in the ragged
};

PackedInput PackInput(const v1::TensorSpec& spec, const std::string& payload,
                      const google::protobuf::RepeatedField<int64_t>& lens) {
  const std::vector<float> values = FloatsOf(payload, spec.dtype());
  const int64_t width = spec.shape(spec.shape_size() - 1);
  const bool dense = spec.shape_size() == 3;
  const int64_t sequences = dense ? spec.shape(0) : std::max(lens.size(), 1);
  PackedInput input;
  if (dense) input.max_len = spec.shape(1);
  int64_t row = 0;
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t full = dense ? spec.shape(1) : spec.shape(0);
    const int64_t len = lens.empty() ? full : lens.Get(static_cast<int>(i));
    if (dense) row = i * full;
    input.first_row.push_back(row);
    input.rows.insert(input.rows.end(), values.begin() + row * width, values.begin() + (row + len) * width);
    input.cu_lens.push_back(input.cu_lens.back() + len);
    input.max_len = std::max(input.max_len, len);
    row += len;
  }
  return input;
}

MatrixView ViewOf(const PackedInput& input, int64_t width) {
  return {input.rows.data(), static_cast<int64_t>(input.rows.size()) / width, width, width};
}

Shape ShapeOf(const v1::TensorSpec& spec) { return {spec.shape().begin(), spec.shape().end()}; }

DType FromProto(v1::DType dtype) {
  switch (dtype) {
    case v1::DTYPE_F16:
      return DType::kF16;
    case v1::DTYPE_BF16:
      return DType::kBf16;
    default:
      return DType::kF32;
  }
}

// The request's mask as the reference reads it; `numbers` are its values unless it is of bools.
MaskView MaskOf(const v1::AttendRequest& request, const std::vector<float>& numbers, int64_t sequence) {
  if (!request.has_mask()) return {};
  const auto& shape = request.mask().shape();
  const int64_t first = shape[0] == 1 ? 0 : sequence * shape[1] * shape[2] * shape[3];
  MaskView mask;
  mask.dtype = request.mask().dtype() == v1::DTYPE_BOOL ? DType::kBool : DType::kF32;
  mask.data = mask.dtype == DType::kF32 ? static_cast<const void*>(numbers.data() + first)
                                        : request.payloads(request.payloads_size() - 1).data() + first;
  mask.head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
  mask.query_stride = shape[3];
  return mask;
}

// What f32 arithmetic costs at most on the small models of these tests, relative to weights and values of
// about 1.
constexpr double kF32Error = 2e-5;

// `got` is of the output's dtype; rounding to it moves a number by half a unit in the last place.
void ExpectNear(const std::vector<double>& wanted, const std::string& got, v1::DType dtype, double tolerance,
                const std::string& what) {
  const std::vector<float> numbers = FloatsOf(got, dtype);
  ASSERT_EQ(wanted.size(), numbers.size()) << what;
  const double rounding = dtype == v1::DTYPE_BF16 ? 0x1p-8 : dtype == v1::DTYPE_F16 ? 0x1p-11 : 0.0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(wanted[i], numbers[i], tolerance + std::fabs(wanted[i]) * rounding)
        << what << "[" << i << "]";
  }
}

// Everything that a reply's weights are compared by.
struct WantedWeights {
  const TestModel& model;
  const v1::AttendRequest& request;
  const v1::AttendResponse& response;
  const std::vector<ReferenceResult>& reference;
  std::vector<int64_t> heads;  // reported
  int64_t query_begin = 0;
  int64_t num_queries = 0;  // of the longest sequence
  int64_t kv_len = 0;       // of the longest sequence, with appended keys

  int64_t batch() const { return static_cast<int64_t>(reference.size()); }
  int64_t num_heads() const { return static_cast<int64_t>(heads.size()); }
  v1::DType dtype() const { return response.weights().dtype(); }
  // The reported queries of a sequence, counted in it.
  int64_t QueryEnd(const ReferenceResult& result) const {
    return std::min(query_begin + num_queries, result.q_len);
  }
};

const double* WeightsRow(const ReferenceResult& result, int64_t head, int64_t query) {
  return result.weights.data() + (head * result.q_len + query) * result.kv_len;
}

void ExpectFullOrMean(const WantedWeights& w, bool mean) {
  Shape shape = {w.batch(), w.num_heads(), w.num_queries, w.kv_len};
  if (mean) shape.erase(shape.begin() + 1);
  ASSERT_EQ(ShapeOf(w.response.weights()), shape);
  std::vector<double> wanted(*NumElements(shape), 0.0);
  const int64_t maps = mean ? 1 : w.num_heads();
  for (int64_t i = 0; i < w.batch(); ++i) {
    const ReferenceResult& result = w.reference[i];
    for (int64_t place = 0; place < w.num_heads(); ++place) {
      for (int64_t query = w.query_begin; query < w.QueryEnd(result); ++query) {
        const double* row = WeightsRow(result, w.heads[place], query);
        const int64_t map = i * maps + (mean ? 0 : place);
        const int64_t to = (map * w.num_queries + query - w.query_begin) * w.kv_len;
        for (int64_t key = 0; key < result.kv_len; ++key) {
          wanted[to + key] += row[key] / static_cast<double>(mean ? w.num_heads() : 1);
        }
      }
    }
  }
  ExpectNear(wanted, w.response.payloads(1), w.dtype(), kF32Error, "weights");
}

// The best weights agree with the reference; the keys are all different and have these weights, so that keys
// which are equally good within the error may change places.
void ExpectTopK(const WantedWeights& w) {
  const int64_t k = w.request.weights().top_k();
  const Shape shape = {w.batch(), w.num_heads(), w.num_queries, k};
  ASSERT_EQ(ShapeOf(w.response.weights()), shape);
  ASSERT_EQ(ShapeOf(w.response.weights_keys()), shape);
  ASSERT_EQ(w.response.weights_keys().dtype(), v1::DTYPE_I32);
  std::vector<int32_t> keys(*NumElements(shape));
  ASSERT_EQ(w.response.payloads(2).size(), keys.size() * sizeof(int32_t));
  std::memcpy(keys.data(), w.response.payloads(2).data(), w.response.payloads(2).size());
  std::vector<double> wanted(keys.size(), 0.0);
  std::vector<double> of_keys(keys.size(), 0.0);  // the reference's weights of the keys that were reported
  for (int64_t i = 0; i < w.batch(); ++i) {
    const ReferenceResult& result = w.reference[i];
    for (int64_t place = 0; place < w.num_heads(); ++place) {
      for (int64_t query = w.query_begin; query < w.query_begin + w.num_queries; ++query) {
        const int64_t at = ((i * w.num_heads() + place) * w.num_queries + query - w.query_begin) * k;
        const bool inside = query < w.QueryEnd(result);
        const TopKeys top = inside ? TopK(result, w.heads[place], query, k) : TopKeys{};
        std::set<int32_t> seen;
        for (int64_t n = 0; n < k; ++n) {
          const bool there = inside && n < static_cast<int64_t>(top.keys.size()) && top.keys[n] >= 0;
          ASSERT_EQ(keys[at + n] >= 0, there) << "weights_keys[" << at + n << "]";
          if (!there) {
            ASSERT_EQ(keys[at + n], -1);
            continue;
          }
          ASSERT_LT(keys[at + n], result.kv_len);
          ASSERT_TRUE(seen.insert(keys[at + n]).second);
          wanted[at + n] = top.weights[n];
          of_keys[at + n] = WeightsRow(result, w.heads[place], query)[keys[at + n]];
        }
      }
    }
  }
  ExpectNear(wanted, w.response.payloads(1), w.dtype(), kF32Error, "weights");
  ExpectNear(of_keys, w.response.payloads(1), w.dtype(), kF32Error, "weights of the keys");
}

// A relative error r of the weights moves each statistic x by at most 2 r (1 + |x|): they are sums over the
// weights, and so is their entropy but for r itself; the support has the weights' squares.
void ExpectStatistics(const std::vector<double>& wanted, const std::string& got, v1::DType dtype,
                      const std::string& what) {
  double largest = 0;
  for (double value : wanted) largest = std::max(largest, std::fabs(value));
  ExpectNear(wanted, got, dtype, 2 * kF32Error * (1 + largest), what);
}

void ExpectSummary(const WantedWeights& w) {
  const Shape shape = {w.batch(), w.num_heads(), kNumHeadStatistics};
  const Shape received_shape = {w.batch(), w.num_heads(), w.kv_len};
  ASSERT_EQ(ShapeOf(w.response.weights()), shape);
  ASSERT_EQ(ShapeOf(w.response.received_mass()), received_shape);
  ASSERT_EQ(w.response.received_mass().dtype(), w.dtype());
  std::vector<double> wanted;
  std::vector<double> received(*NumElements(received_shape), 0.0);
  for (int64_t i = 0; i < w.batch(); ++i) {
    const ReferenceResult& result = w.reference[i];
    for (int64_t place = 0; place < w.num_heads(); ++place) {
      const HeadSummary summary = Summarize(result, w.heads[place], w.query_begin, w.QueryEnd(result));
      wanted.insert(wanted.end(), {summary.entropy_nats, summary.distance_tokens, summary.max_weight,
                                   summary.self_mass, summary.first_token_mass, summary.effective_support});
      std::copy(summary.received_mass.begin(), summary.received_mass.end(),
                received.begin() + (i * w.num_heads() + place) * w.kv_len);
    }
  }
  ExpectStatistics(wanted, w.response.payloads(1), w.dtype(), "weights");
  ExpectStatistics(received, w.response.payloads(2), w.dtype(), "received_mass");
}

// Of each sequence its own cells, as if it were alone; 0 beyond.
void ExpectGrid(const WantedWeights& w) {
  const v1::WeightsOptions& options = w.request.weights();
  const auto cells = [](int64_t asked, int64_t there) { return std::min(asked == 0 ? 64 : asked, there); };
  const int64_t rows = cells(options.grid_rows(), w.num_queries), cols = cells(options.grid_cols(), w.kv_len);
  const Shape shape = {w.batch(), w.num_heads(), rows, cols};
  ASSERT_EQ(ShapeOf(w.response.weights()), shape);
  std::vector<double> wanted(*NumElements(shape), 0.0);
  for (int64_t i = 0; i < w.batch(); ++i) {
    const ReferenceResult& result = w.reference[i];
    const int64_t queries = w.QueryEnd(result) - w.query_begin;
    if (queries <= 0) continue;
    const int64_t own_rows = std::min(rows, queries), own_cols = std::min(cols, result.kv_len);
    for (int64_t place = 0; place < w.num_heads(); ++place) {
      const std::vector<double> grid =
          GridOf(result, w.heads[place], w.query_begin, w.query_begin + queries, own_rows, own_cols);
      for (int64_t row = 0; row < own_rows; ++row) {
        std::copy_n(grid.begin() + row * own_cols, own_cols,
                    wanted.begin() + ((i * w.num_heads() + place) * rows + row) * cols);
      }
    }
  }
  ExpectNear(wanted, w.response.payloads(1), w.dtype(), kF32Error, "weights");
}

void ExpectWeights(WantedWeights w, int64_t q_len, int64_t own_kv_len) {
  const v1::WeightsOptions& options = w.request.weights();
  w.heads.assign(options.heads().begin(), options.heads().end());
  if (w.heads.empty()) {
    w.heads.resize(w.model.config.num_heads);
    std::iota(w.heads.begin(), w.heads.end(), 0);
  }
  w.query_begin = options.query_begin();
  w.num_queries = (options.query_end() == 0 ? q_len : options.query_end()) - w.query_begin;
  w.kv_len = own_kv_len + w.model.config.num_appended_keys();
  switch (options.mode()) {
    case v1::WEIGHTS_MODE_TOP_K:
      return ExpectTopK(w);
    case v1::WEIGHTS_MODE_SUMMARY:
      return ExpectSummary(w);
    case v1::WEIGHTS_MODE_GRID:
      return ExpectGrid(w);
    default:
      return ExpectFullOrMean(w, options.mode() == v1::WEIGHTS_MODE_MEAN);
  }
}

}  // namespace

AttentionConfig SmallConfig() {
  AttentionConfig config;
  config.embed_dim = 16;
  config.num_heads = 2;
  return config;
}

AttentionConfig CrossConfig() {
  AttentionConfig config = SmallConfig();
  config.kdim = 12;
  config.vdim = 8;
  return config;
}

TestModel MakeTestModel(const std::string& name, AttentionConfig config, const std::string& version) {
  ModelConfig model;
  model.block.attention = config;
  model = model.Resolved();
  ModelParameters weights = RandomModelParameters(model, /*seed=*/7);
  auto loaded = PackModel(name, version, "native", model, weights, /*kernel_name=*/"");
  if (!loaded.ok()) throw std::runtime_error(loaded.status().ToString());
  return {model.block.attention, std::move(weights.layers.front().attention), *std::move(loaded)};
}

ModelConfig EncoderConfig() {
  ModelConfig config;
  config.block.attention = SmallConfig();
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward = {.hidden_dim = 24, .activation = Activation::kGeluErf};
  config.num_layers = 3;
  config.embedding = {.vocab_size = 50, .num_positions = 20, .num_token_types = 2, .norm = true};
  config.normalize_pooled = true;
  return config;
}

ModelConfig EncoderWithHeads() {
  ModelConfig config = EncoderConfig();
  const auto dense = [](int64_t out, RowActivation activation = RowActivation::kIdentity) {
    return RowStep{.in_dim = 16, .out_dim = out, .activation = activation};
  };
  const RowStep norm{.kind = RowStep::Kind::kLayerNorm, .in_dim = 16, .out_dim = 16, .eps = 1e-5};
  config.pooled_steps = {dense(5, RowActivation::kTanh)};
  config.heads.heads = {
      {.kind = HeadKind::kScores, .steps = {dense(16, RowActivation::kTanh), dense(3)}, .silent_ids = {}},
      {.kind = HeadKind::kTokenScores, .steps = {dense(4)}, .silent_ids = {}},
      {.kind = HeadKind::kLanguageModel,
       .steps = {dense(16, RowActivation::kGeluErf), norm},
       .vocab_size = 50,
       .tied = true,
       .silent_ids = {}},
      {.kind = HeadKind::kTokenVectors, .steps = {dense(9)}, .silent_ids = {}, .skipped_tokens = 1}};
  return config;
}

std::shared_ptr<const LoadedModel> LoadTestModel(const std::string& name, const ModelConfig& config) {
  const ModelConfig resolved = config.Resolved();
  auto loaded = PackModel(name, "1", "native", resolved, RandomModelParameters(resolved, /*seed=*/7), "");
  if (!loaded.ok()) throw std::runtime_error(loaded.status().ToString());
  return *std::move(loaded);
}

std::vector<float> RandomFloats(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(engine);
  return values;
}

std::vector<float> FloatsOf(const std::string& bytes, v1::DType dtype) {
  const int64_t count = static_cast<int64_t>(bytes.size()) / SizeOf(FromProto(dtype));
  std::vector<float> values(count);
  ConvertToF32(FromProto(dtype), bytes.data(), count, values.data());
  return values;
}

void AddFloats(const Shape& shape, uint64_t seed, v1::TensorSpec& spec, v1::AttendRequest& request,
               v1::DType dtype) {
  spec.set_dtype(dtype);
  for (int64_t dim : shape) spec.add_shape(dim);
  const std::vector<float> values = RandomFloats(*NumElements(shape), seed);
  std::string bytes(values.size() * SizeOf(FromProto(dtype)), '\0');
  ConvertFromF32(values.data(), static_cast<int64_t>(values.size()), FromProto(dtype), bytes.data());
  request.add_payloads(bytes);
}

v1::AttendRequest MakeRequest(const std::string& model, const Shape& query_shape, uint64_t seed,
                              v1::DType dtype) {
  v1::AttendRequest request;
  request.set_model(model);
  AddFloats(query_shape, seed, *request.mutable_query(), request, dtype);
  return request;
}

void AddIds(const Shape& shape, const std::vector<int64_t>& ids, v1::TensorSpec& spec,
            v1::AttendRequest& request, v1::DType dtype) {
  spec.set_dtype(dtype);
  for (int64_t dim : shape) spec.add_shape(dim);
  request.add_payloads(dtype == v1::DTYPE_I64 ? BytesOf(ids)
                                              : BytesOf(std::vector<int32_t>(ids.begin(), ids.end())));
}

std::vector<int64_t> RandomIds(int64_t count, int64_t limit, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<int64_t> ids(count);
  for (int64_t& id : ids) id = static_cast<int64_t>(engine() % static_cast<uint64_t>(limit));
  return ids;
}

v1::AttendRequest MakeIdsRequest(const std::string& model, const Shape& shape, uint64_t seed, v1::DType dtype,
                                 int64_t vocab_size) {
  v1::AttendRequest request;
  request.set_model(model);
  AddIds(shape, RandomIds(*NumElements(shape), vocab_size, seed), *request.mutable_token_ids(), request,
         dtype);
  return request;
}

ByteSegments Segmented(const std::string& bytes, size_t segment_bytes) {
  ByteSegments segments;
  const std::span<const std::byte> all = std::as_bytes(std::span(bytes));
  for (size_t begin = 0; begin < all.size(); begin += segment_bytes) {
    segments.Append(all.subspan(begin, std::min(segment_bytes, all.size() - begin)));
  }
  return segments;
}

void ExpectMatchesReference(const TestModel& model, const v1::AttendRequest& request,
                            const v1::AttendResponse& response) {
  const AttentionConfig& config = model.config;
  const bool cross = request.has_key();
  const PackedInput query = PackInput(request.query(), request.payloads(0), request.seq_lens());
  const PackedInput key =
      cross ? PackInput(request.key(), request.payloads(1), request.kv_seq_lens()) : query;
  const PackedInput value =
      request.has_value() ? PackInput(request.value(), request.payloads(2), request.kv_seq_lens()) : key;
  const int64_t sequences = static_cast<int64_t>(query.first_row.size());
  std::vector<float> mask;
  if (request.has_mask() && request.mask().dtype() != v1::DTYPE_BOOL) {
    mask = FloatsOf(request.payloads(request.payloads_size() - 1), request.mask().dtype());
  }
  std::vector<SequenceOptions> options(sequences);
  for (int64_t i = 0; i < sequences; ++i) {
    options[i].visibility.causal = request.causal();
    if (request.has_window_left()) options[i].visibility.window_left = request.window_left();
    if (request.has_window_right()) options[i].visibility.window_right = request.window_right();
    options[i].mask = MaskOf(request, mask, i);
  }
  AttentionBatch batch;
  batch.query = ViewOf(query, config.embed_dim);
  batch.key = ViewOf(key, cross ? config.kdim : config.embed_dim);
  batch.value = ViewOf(value, request.has_value() ? config.vdim : batch.key.cols);
  batch.cu_q_lens = query.cu_lens;
  batch.cu_kv_lens = key.cu_lens;
  batch.sequences = options;
  const std::vector<ReferenceResult> reference = ReferenceAttention(config, model.weights, batch);

  const Shape shape = ShapeOf(request.query());
  std::vector<double> output(*NumElements(shape), 0.0);
  for (int64_t i = 0; i < sequences; ++i) {
    std::copy(reference[i].output.begin(), reference[i].output.end(),
              output.begin() + query.first_row[i] * config.embed_dim);
  }
  const v1::DType dtype =
      request.output_dtype() == v1::DTYPE_UNSPECIFIED ? v1::DTYPE_F32 : request.output_dtype();
  ASSERT_EQ(ShapeOf(response.output()), shape);
  ASSERT_EQ(response.output().dtype(), dtype);
  ASSERT_GE(response.payloads_size(), 1);
  ExpectNear(output, response.payloads(0), dtype, kF32Error, "output");

  const v1::WeightsMode mode = request.weights().mode();
  ASSERT_EQ(response.has_weights(), mode > v1::WEIGHTS_MODE_NONE);
  ASSERT_EQ(response.has_weights_keys(), mode == v1::WEIGHTS_MODE_TOP_K);
  ASSERT_EQ(response.has_received_mass(), mode == v1::WEIGHTS_MODE_SUMMARY);
  ASSERT_EQ(response.payloads_size(),
            1 + response.has_weights() + response.has_weights_keys() + response.has_received_mass());
  if (!response.has_weights()) return;
  ASSERT_EQ(response.weights().dtype(), dtype);
  ExpectWeights({model, request, response, reference}, query.max_len, key.max_len);
}

}  // namespace headlight::testing
