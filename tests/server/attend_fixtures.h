// SPDX-License-Identifier: Apache-2.0
//
// Small models and requests for the server's tests, and the check of a reply against the double-precision
// reference.
#ifndef HEADLIGHT_TESTS_SERVER_ATTEND_FIXTURES_H_
#define HEADLIGHT_TESTS_SERVER_ATTEND_FIXTURES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/config.h"
#include "core/attention/parameters.h"
#include "core/model/config.h"
#include "core/tensor/shape.h"
#include "headlight/v1/attention.pb.h"
#include "server/models/registry.h"
#include "server/wire/byte_segments.h"

namespace headlight::testing {

struct TestModel {
  AttentionConfig config;  // resolved
  AttentionParameters weights;
  std::shared_ptr<const LoadedModel> loaded;
};

// embed_dim 16, 2 heads, kdim 16, vdim 16.
AttentionConfig SmallConfig();
// The same with kdim 12 and vdim 8: keys and values must be sent.
AttentionConfig CrossConfig();

TestModel MakeTestModel(const std::string& name, AttentionConfig config = SmallConfig(),
                        const std::string& version = "1");

// Begins at ids: 3 layers of the SmallConfig with post-norm, a feed-forward network of 24 and GELU; 50 ids,
// 20 positions, 2 types; pooled to unit length as the mean.
ModelConfig EncoderConfig();

// The same with a Dense of 5 behind its pooling, and a head of each kind: 3 scores, 4 of a token, logits tied
// to the table, vectors of 9 but for first tokens.
ModelConfig EncoderWithHeads();

// The model of `config` with random weights.
std::shared_ptr<const LoadedModel> LoadTestModel(const std::string& name, const ModelConfig& config);

std::vector<float> RandomFloats(int64_t count, uint64_t seed);

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(static_cast<const char*>(static_cast<const void*>(values.data())),
                     values.size() * sizeof(T));
}
std::vector<float> FloatsOf(const std::string& bytes, v1::DType dtype = v1::DTYPE_F32);

// Fills `spec` and appends random numbers of that shape to the payloads of `request`.
void AddFloats(const Shape& shape, uint64_t seed, v1::TensorSpec& spec, v1::AttendRequest& request,
               v1::DType dtype = v1::DTYPE_F32);

// A request for `model` whose query has this shape, filled from a seed.
v1::AttendRequest MakeRequest(const std::string& model, const Shape& query_shape, uint64_t seed = 1,
                              v1::DType dtype = v1::DTYPE_F32);

// Fills `spec` with a shape and appends `ids` to the payloads of `request`, as I32 or I64.
void AddIds(const Shape& shape, const std::vector<int64_t>& ids, v1::TensorSpec& spec,
            v1::AttendRequest& request, v1::DType dtype = v1::DTYPE_I32);

// A request for `model` with random token ids below `vocab_size` of this shape.
v1::AttendRequest MakeIdsRequest(const std::string& model, const Shape& shape, uint64_t seed = 1,
                                 v1::DType dtype = v1::DTYPE_I32, int64_t vocab_size = 50);

std::vector<int64_t> RandomIds(int64_t count, int64_t limit, uint64_t seed);

// `bytes` in pieces of at most segment_bytes; `bytes` must live on.
ByteSegments Segmented(const std::string& bytes, size_t segment_bytes);

// Compares every number of `response`, padding included, with core/attention/reference.h.
void ExpectMatchesReference(const TestModel& model, const v1::AttendRequest& request,
                            const v1::AttendResponse& response);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_ATTEND_FIXTURES_H_
