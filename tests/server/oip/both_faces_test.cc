// SPDX-License-Identifier: Apache-2.0
//
// One table of requests and errors over both protocols: the same bits, the same sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/oip/infer_reply.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/server/oip/as_infer.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::AddIds;
using testing::AnswerAsOneBatch;
using testing::AsInfer;
using testing::AsInferMessage;
using testing::CheckAttend;
using testing::CheckInfer;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::Segmented;

constexpr int64_t kFacesMessageBytes = 1 << 20;
constexpr size_t kFacesSegmentBytes = 100;

// A request, given by what is done to a good one.
struct FaceCase {
  const char* name;
  std::function<v1::AttendRequest()> request;
};

v1::AttendRequest With(v1::AttendRequest request, const std::function<void(v1::AttendRequest&)>& change) {
  change(request);
  return request;
}

v1::AttendRequest DenseRows(const std::function<void(v1::AttendRequest&)>& change = [](auto&) {}) {
  return With(MakeRequest("small", {2, 3, 16}), change);
}
v1::AttendRequest RaggedRows() {
  return With(MakeRequest("small", {6, 16}), [](auto& request) {
    for (int64_t len : {1, 3, 2}) request.add_seq_lens(len);
  });
}
v1::AttendRequest CrossRows(v1::DType dtype = v1::DTYPE_F32) {
  return With(MakeRequest("cross", {2, 3, 16}, 1, dtype), [&](auto& request) {
    AddFloats({2, 5, 12}, 2, *request.mutable_key(), request, dtype);
    AddFloats({2, 5, 8}, 3, *request.mutable_value(), request, dtype);
  });
}
v1::AttendRequest Masked(v1::AttendRequest request, const Shape& shape, v1::DType dtype = v1::DTYPE_F32) {
  AddFloats(shape, 4, *request.mutable_mask(), request, dtype);
  return request;
}
v1::AttendRequest Ids(const std::function<void(v1::AttendRequest&)>& change = [](auto&) {}) {
  return With(MakeIdsRequest("encoder", {2, 4}), change);
}
v1::AttendRequest Weighed(v1::WeightsMode mode, const std::function<void(v1::WeightsOptions&)>& change) {
  return DenseRows([&](auto& request) {
    request.mutable_weights()->set_mode(mode);
    change(*request.mutable_weights());
  });
}
v1::AttendRequest Asking(
    std::vector<v1::OutputKind> kinds, const std::function<void(v1::OutputSpec&)>& change = [](auto&) {}) {
  return Ids([&](auto& request) {
    for (const v1::OutputKind kind : kinds) {
      v1::OutputSpec& output = *request.add_outputs();
      output.set_kind(kind);
      change(output);
    }
  });
}

const FaceCase kGoodCases[] = {
    {"dense", [] { return DenseRows(); }},
    {"dense with lengths", [] { return DenseRows([](auto& r) { r.add_seq_lens(3), r.add_seq_lens(1); }); }},
    {"ragged", RaggedRows},
    {"one ragged sequence",
     [] {
       return MakeRequest("small", {6, 16});
     }},
    {"bf16 in",
     [] {
       return MakeRequest("small", {2, 3, 16}, 1, v1::DTYPE_BF16);
     }},
    {"f16 in, bf16 out",
     [] {
       return With(MakeRequest("small", {2, 3, 16}, 1, v1::DTYPE_F16),
                   [](auto& r) { r.set_output_dtype(v1::DTYPE_BF16); });
     }},
    {"cross", [] { return CrossRows(); }},
    {"cross of bf16", [] { return CrossRows(v1::DTYPE_BF16); }},
    {"cross with lengths",
     [] {
       return With(CrossRows(), [](auto& r) {
         for (int64_t len : {3, 2}) r.add_seq_lens(len);
         for (int64_t len : {5, 1}) r.add_kv_seq_lens(len);
       });
     }},
    {"mask",
     [] {
       return Masked(DenseRows(), {2, 1, 3, 3});
     }},
    {"bf16 mask",
     [] {
       return Masked(CrossRows(), {1, 2, 3, 5}, v1::DTYPE_BF16);
     }},
    {"causal", [] { return DenseRows([](auto& r) { r.set_causal(true); }); }},
    {"windows", [] { return DenseRows([](auto& r) { r.set_window_left(1), r.set_window_right(0); }); }},
    {"weights", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto&) {}); }},
    {"weights of a head", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.add_heads(1); }); }},
    {"mean weights",
     [] {
       return Weighed(v1::WEIGHTS_MODE_MEAN, [](auto& w) { w.set_query_begin(1), w.set_query_end(3); });
     }},
    {"largest weights", [] { return Weighed(v1::WEIGHTS_MODE_TOP_K, [](auto& w) { w.set_top_k(2); }); }},
    {"grid", [] { return Weighed(v1::WEIGHTS_MODE_GRID, [](auto& w) { w.set_grid_cols(2); }); }},
    {"grids of two layers",
     [] {
       return Ids([](auto& r) {
         r.mutable_weights()->set_mode(v1::WEIGHTS_MODE_GRID);
         r.mutable_weights()->set_grid_rows(2);
         for (int64_t layer : {1, 0}) r.mutable_weights()->add_layers(layer);
       });
     }},
    {"summary", [] { return Weighed(v1::WEIGHTS_MODE_SUMMARY, [](auto& w) { w.set_layer(0); }); }},
    {"pooled rows", [] { return DenseRows([](auto& r) { r.set_pooling(v1::POOLING_MODE_MAX); }); }},
    {"ids", [] { return Ids(); }},
    {"ids of int64",
     [] {
       return MakeIdsRequest("encoder", {2, 4}, 1, v1::DTYPE_I64);
     }},
    {"types",
     [] {
       return Ids([](auto& r) { AddIds({2, 4}, {0, 1, 0, 1, 1, 1, 0, 0}, *r.mutable_token_types(), r); });
     }},
    {"pooled as the model does", [] { return Ids([](auto& r) { r.set_pooling(v1::POOLING_MODE_MODEL); }); }},
    {"pooled and cut",
     [] { return Ids([](auto& r) { r.set_pooling(v1::POOLING_MODE_MODEL), r.set_dimensions(3); }); }},
    {"scores", [] { return Asking({v1::OUTPUT_KIND_SCORES}); }},
    {"many outputs",
     [] {
       return Asking({v1::OUTPUT_KIND_HIDDEN_STATES, v1::OUTPUT_KIND_POOLED, v1::OUTPUT_KIND_TOKEN_SCORES,
                      v1::OUTPUT_KIND_SPARSE, v1::OUTPUT_KIND_TOKEN_VECTORS});
     }},
    {"token logits",
     [] {
       return Asking({v1::OUTPUT_KIND_TOKEN_LOGITS}, [](auto& o) { o.add_positions(5), o.add_positions(0); });
     }},
    {"int8 vectors",
     [] {
       return Asking({v1::OUTPUT_KIND_POOLED, v1::OUTPUT_KIND_TOKEN_VECTORS},
                     [](auto& o) { o.set_dtype(v1::DTYPE_I8); });
     }},
    {"vectors of bits",
     [] { return Asking({v1::OUTPUT_KIND_POOLED}, [](auto& o) { o.set_dtype(v1::DTYPE_BITS); }); }},
    {"few sparse ids", [] { return Asking({v1::OUTPUT_KIND_SPARSE}, [](auto& o) { o.set_top_k(3); }); }},
    {"an id", [] { return DenseRows([](auto& r) { r.set_request_id("mine"); }); }},
    {"a version", [] { return DenseRows([](auto& r) { r.set_model_version("1"); }); }},
};

const FaceCase kBadCases[] = {
    {"no model", [] { return DenseRows([](auto& r) { r.clear_model(); }); }},
    {"unknown model", [] { return DenseRows([](auto& r) { r.set_model("large"); }); }},
    {"broken model", [] { return DenseRows([](auto& r) { r.set_model("broken"); }); }},
    {"unknown version", [] { return DenseRows([](auto& r) { r.set_model_version("9"); }); }},
    {"long id", [] { return DenseRows([](auto& r) { r.set_request_id(std::string(129, 'r')); }); }},
    {"no query", [] { return DenseRows([](auto& r) { r.clear_query(), r.clear_payloads(); }); }},
    {"no ids", [] { return Ids([](auto& r) { r.clear_token_ids(), r.clear_payloads(); }); }},
    {"ids for rows",
     [] {
       return With(MakeIdsRequest("small", {2, 4}), [](auto&) {});
     }},
    {"rows for ids", [] { return Ids([](auto& r) {
                            AddFloats({2, 4, 16}, 1, *r.mutable_query(), r);
                          }); }},
    {"types for rows",
     [] {
       return DenseRows([](auto& r) { AddIds({2, 3}, {0, 0, 0, 0, 0, 0}, *r.mutable_token_types(), r); });
     }},
    {"payload missing",
     [] { return With(CrossRows(), [](auto& r) { r.mutable_payloads()->RemoveLast(); }); }},
    {"payload too much", [] { return DenseRows([](auto& r) { r.add_payloads("x"); }); }},
    {"rank", [] { return DenseRows([](auto& r) { r.mutable_query()->add_shape(1); }); }},
    {"dtype", [] { return DenseRows([](auto& r) { r.mutable_query()->set_dtype(v1::DTYPE_I32); }); }},
    {"zero dimension", [] { return DenseRows([](auto& r) { r.mutable_query()->set_shape(1, 0); }); }},
    {"negative dimension", [] { return DenseRows([](auto& r) { r.mutable_query()->set_shape(1, -3); }); }},
    {"huge dimensions",
     [] { return DenseRows([](auto& r) { r.mutable_query()->set_shape(0, int64_t{1} << 62); }); }},
    {"byte missing", [] { return DenseRows([](auto& r) { r.mutable_payloads(0)->pop_back(); }); }},
    {"no bytes", [] { return DenseRows([](auto& r) { r.set_payloads(0, ""); }); }},
    {"width",
     [] {
       return MakeRequest("small", {2, 3, 15});
     }},
    {"value without key",
     [] { return DenseRows([](auto& r) {
            AddFloats({2, 3, 16}, 2, *r.mutable_value(), r);
          }); }},
    {"key of another width",
     [] {
       return With(MakeRequest("cross", {2, 3, 16}), [](auto& r) {
         AddFloats({2, 5, 11}, 2, *r.mutable_key(), r);
       });
     }},
    {"key missing",
     [] {
       return MakeRequest("cross", {2, 3, 16});
     }},
    {"mask shape",
     [] {
       return Masked(DenseRows(), {2, 1, 3, 4});
     }},
    {"mask rank",
     [] {
       return Masked(DenseRows(), {3, 3, 3});
     }},
    {"few lengths", [] { return DenseRows([](auto& r) { r.add_seq_lens(3); }); }},
    {"length too long", [] { return DenseRows([](auto& r) { r.add_seq_lens(3), r.add_seq_lens(4); }); }},
    {"length of zero", [] { return DenseRows([](auto& r) { r.add_seq_lens(3), r.add_seq_lens(0); }); }},
    {"lengths do not sum up", [] { return With(RaggedRows(), [](auto& r) { r.set_seq_lens(0, 2); }); }},
    {"key lengths without key", [] { return DenseRows([](auto& r) { r.add_kv_seq_lens(3); }); }},
    {"window", [] { return DenseRows([](auto& r) { r.set_window_left(-1); }); }},
    {"other window", [] { return DenseRows([](auto& r) { r.set_window_right(-1); }); }},
    {"timeout", [] { return DenseRows([](auto& r) { r.set_timeout_us(-1); }); }},
    {"output type", [] { return DenseRows([](auto& r) { r.set_output_dtype(v1::DTYPE_I32); }); }},
    {"top_k of nothing", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_top_k(1); }); }},
    {"top_k too large", [] { return Weighed(v1::WEIGHTS_MODE_TOP_K, [](auto& w) { w.set_top_k(1025); }); }},
    {"head", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.add_heads(2); }); }},
    {"head twice",
     [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.add_heads(1), w.add_heads(1); }); }},
    {"heads without weights", [] { return DenseRows([](auto& r) { r.mutable_weights()->add_heads(1); }); }},
    {"queries without weights",
     [] { return DenseRows([](auto& r) { r.mutable_weights()->set_query_end(1); }); }},
    {"layer without weights", [] { return DenseRows([](auto& r) { r.mutable_weights()->set_layer(0); }); }},
    {"a grid too large", [] { return Weighed(v1::WEIGHTS_MODE_GRID, [](auto& w) { w.set_grid_rows(65); }); }},
    {"grid of nothing", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_grid_cols(1); }); }},
    {"layers", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.add_layers(1); }); }},
    {"layer and layers",
     [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_layer(0), w.add_layers(0); }); }},
    {"layer", [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_layer(1); }); }},
    {"empty range of queries",
     [] {
       return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_query_begin(1), w.set_query_end(1); });
     }},
    {"queries beyond the end",
     [] { return Weighed(v1::WEIGHTS_MODE_FULL, [](auto& w) { w.set_query_end(4); }); }},
    {"dimensions",
     [] { return Ids([](auto& r) { r.set_pooling(v1::POOLING_MODE_MODEL), r.set_dimensions(6); }); }},
    {"dimensions without pooling", [] { return Ids([](auto& r) { r.set_dimensions(1); }); }},
    {"an id too large",
     [] {
       return MakeIdsRequest("encoder", {2, 4}, 1, v1::DTYPE_I64, 5000);
     }},
    {"too long for the positions",
     [] {
       return MakeIdsRequest("encoder", {1, 21});
     }},
    {"types of another shape",
     [] { return Ids([](auto& r) {
            AddIds({2, 3}, {0, 0, 0, 0, 0, 0}, *r.mutable_token_types(), r);
          }); }},
    {"ids of floats", [] { return Ids([](auto& r) { r.mutable_token_ids()->set_dtype(v1::DTYPE_F32); }); }},
    {"a reply too large",
     [] {
       return With(MakeRequest("small", {1, 1000, 16}, 1, v1::DTYPE_BF16),
                   [](auto& r) { r.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL); });
     }},
};

class BothFacesTest : public ::testing::TestWithParam<FaceCase> {
 protected:
  static void SetUpTestSuite() {
    if (registry_ != nullptr) return;
    registry_ = new ModelRegistry;
    ASSERT_THAT(registry_->Add(MakeTestModel("small").loaded), IsOk());
    ASSERT_THAT(registry_->Add(MakeTestModel("cross", testing::CrossConfig()).loaded), IsOk());
    ASSERT_THAT(registry_->Add(LoadTestModel("encoder", testing::EncoderWithHeads())), IsOk());
    registry_->SetLoadError("broken", "its file is short");
  }

  RequestLimits Limits() const { return {*registry_, kFacesMessageBytes}; }

  // Answers `request` through the Open Inference Protocol.
  inference::ModelInferResponse Infer(const v1::AttendRequest& request, AttentionExecutor& executor) {
    const std::string bytes = AsInfer(request).SerializeAsString();
    const ByteSegments message = Segmented(bytes, kFacesSegmentBytes);
    const auto infer = CheckInfer(message, Limits());
    EXPECT_THAT(infer, IsOk());
    if (!infer.ok()) return {};
    const BatchInput* const input = &infer->checked.input;
    const auto results = executor.Execute({&input, 1});
    EXPECT_THAT(results, IsOk());
    const auto& asked = static_cast<const InferRequest&>(*infer->request);
    const auto reply = EncodeInfer({asked.tensors(), asked.tenant()}, infer->checked.reply, results->front());
    EXPECT_THAT(reply, IsOk());
    return testing::ParseInferReply(*reply);
  }

  static ModelRegistry* registry_;
};

ModelRegistry* BothFacesTest::registry_ = nullptr;

std::string CaseName(const ::testing::TestParamInfo<FaceCase>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

class GoodOverBothFacesTest : public BothFacesTest {};
class BadOverBothFacesTest : public BothFacesTest {};

// Payloads of v1 that are outputs of the other protocol: all of them, in their order but for lists of
// lengths, which v1 has among its fields.
TEST_P(GoodOverBothFacesTest, TheSameBits) {
  ComputeArena arena(1);
  BufferPool pool(/*max_idle_bytes=*/1 << 20);
  AttentionExecutor executor(arena, pool);
  const v1::AttendRequest request = GetParam().request();
  const v1::AttendResponse attend =
      AnswerAsOneBatch({request}, *registry_, executor, kFacesSegmentBytes).front();
  const inference::ModelInferResponse infer = Infer(request, executor);
  EXPECT_EQ(infer.model_name(), attend.model());
  EXPECT_EQ(infer.model_version(), attend.model_version());
  EXPECT_EQ(infer.id(), attend.request_id());
  ASSERT_EQ(infer.outputs_size(), infer.raw_output_contents_size());
  int next = 0;
  for (int i = 0; i < infer.outputs_size(); ++i) {
    SCOPED_TRACE(infer.outputs(i).name());
    EXPECT_FALSE(infer.outputs(i).has_contents());
    if (infer.outputs(i).name().ends_with("_lens")) continue;
    ASSERT_LT(next, attend.payloads_size());
    EXPECT_EQ(infer.raw_output_contents(i), attend.payloads(next++));
  }
  EXPECT_EQ(next, attend.payloads_size());
}

TEST_P(BadOverBothFacesTest, TheSameSentence) {
  const v1::AttendRequest request = GetParam().request();
  const std::string attend_bytes = request.SerializeAsString();
  const std::string infer_bytes = AsInfer(request).SerializeAsString();
  const absl::Status attend = CheckAttend(Segmented(attend_bytes, kFacesSegmentBytes), Limits()).status();
  const absl::Status infer = CheckInfer(Segmented(infer_bytes, kFacesSegmentBytes), Limits()).status();
  EXPECT_FALSE(attend.ok());
  EXPECT_EQ(infer.code(), attend.code());
  EXPECT_EQ(infer.message(), AsInferMessage(std::string(attend.message())));
}

INSTANTIATE_TEST_SUITE_P(Table, GoodOverBothFacesTest, ::testing::ValuesIn(kGoodCases), CaseName);
INSTANTIATE_TEST_SUITE_P(Table, BadOverBothFacesTest, ::testing::ValuesIn(kBadCases), CaseName);

}  // namespace
}  // namespace headlight
