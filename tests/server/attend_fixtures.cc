// SPDX-License-Identifier: Apache-2.0
#include "tests/server/attend_fixtures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <utility>

#include "core/attention/batch.h"
#include "core/attention/reference.h"

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
  const std::vector<float> values = FloatsOf(payload);
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

MaskView MaskOf(const v1::AttendRequest& request, int64_t sequence) {
  if (!request.has_mask()) return {};
  const auto& shape = request.mask().shape();
  MaskView mask;
  mask.dtype = request.mask().dtype() == v1::DTYPE_BOOL ? DType::kBool : DType::kF32;
  const int64_t first = shape[0] == 1 ? 0 : sequence * shape[1] * shape[2] * shape[3];
  mask.data = request.payloads(request.payloads_size() - 1).data() + first * SizeOf(mask.dtype);
  mask.head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
  mask.query_stride = shape[3];
  return mask;
}

void ExpectNear(const std::vector<double>& wanted, const std::vector<float>& got, const std::string& what) {
  ASSERT_EQ(wanted.size(), got.size()) << what;
  for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(wanted[i], got[i], 2e-5) << what << "[" << i << "]";
}

Shape ShapeOf(const v1::TensorSpec& spec) { return {spec.shape().begin(), spec.shape().end()}; }

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
  config = config.Resolved();
  AttentionWeights weights = RandomWeights(config, /*seed=*/7);
  auto attention = MultiHeadAttention::Create(config, weights);
  if (!attention.ok()) throw std::runtime_error(attention.status().ToString());
  return {config, std::move(weights),
          std::make_shared<const LoadedModel>(LoadedModel{name, version, *std::move(attention)})};
}

std::vector<float> RandomFloats(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(engine);
  return values;
}

std::vector<float> FloatsOf(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

void AddFloats(const Shape& shape, uint64_t seed, v1::TensorSpec& spec, v1::AttendRequest& request) {
  spec.set_dtype(v1::DTYPE_F32);
  for (int64_t dim : shape) spec.add_shape(dim);
  request.add_payloads(BytesOf(RandomFloats(*NumElements(shape), seed)));
}

v1::AttendRequest MakeRequest(const std::string& model, const Shape& query_shape, uint64_t seed) {
  v1::AttendRequest request;
  request.set_model(model);
  AddFloats(query_shape, seed, *request.mutable_query(), request);
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
  std::vector<SequenceOptions> options(sequences);
  for (int64_t i = 0; i < sequences; ++i) {
    options[i].visibility.causal = request.causal();
    options[i].mask = MaskOf(request, i);
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
  ASSERT_EQ(ShapeOf(response.output()), shape);
  ASSERT_GE(response.payloads_size(), 1);
  ExpectNear(output, FloatsOf(response.payloads(0)), "output");

  const v1::WeightsMode mode = request.weights().mode();
  ASSERT_EQ(response.has_weights(), mode == v1::WEIGHTS_MODE_FULL || mode == v1::WEIGHTS_MODE_MEAN);
  ASSERT_EQ(response.payloads_size(), response.has_weights() ? 2 : 1);
  if (!response.has_weights()) return;
  const int64_t heads = mode == v1::WEIGHTS_MODE_FULL ? config.num_heads : 1;
  Shape weights_shape = {sequences, query.max_len, key.max_len};
  if (mode == v1::WEIGHTS_MODE_FULL) weights_shape.insert(weights_shape.begin() + 1, heads);
  ASSERT_EQ(ShapeOf(response.weights()), weights_shape);
  std::vector<double> weights(*NumElements(weights_shape), 0.0);
  for (int64_t i = 0; i < sequences; ++i) {
    const ReferenceResult& result = reference[i];
    const std::vector<double> rows = heads == 1 ? MeanWeights(result, config.num_heads) : result.weights;
    for (int64_t row = 0; row < heads * result.q_len; ++row) {
      const int64_t head = row / result.q_len;
      const int64_t to = ((i * heads + head) * query.max_len + row % result.q_len) * key.max_len;
      std::copy_n(rows.begin() + row * result.kv_len, result.kv_len, weights.begin() + to);
    }
  }
  ExpectNear(weights, FloatsOf(response.payloads(1)), "weights");
}

}  // namespace headlight::testing
