// SPDX-License-Identifier: Apache-2.0
#include "tests/server/oip/as_infer.h"

#include <gtest/gtest.h>

#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"
#include "server/attend/dtype_names.h"
#include "server/attend/output_kinds.h"
#include "server/memory/buffer_pool.h"
#include "server/oip/oip_datatypes.h"
#include "server/oip/oip_face.h"
#include "server/oip/output_names.h"
#include "server/wire/received_message.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {
namespace {

using inference::InferParameter;

std::string DatatypeOfProto(v1::DType dtype) {
  const WireDType wire = headlight::FromProto(dtype);
  return wire.dtype ? DatatypeOf(*wire.dtype) : "";
}

std::string BytesOfNumbers(const google::protobuf::RepeatedField<int64_t>& numbers) {
  const void* const bytes = numbers.data();
  return {static_cast<const char*>(bytes), numbers.size() * sizeof(int64_t)};
}

const char* NameOfPooling(v1::PoolingMode mode) {
  switch (mode) {
    case v1::POOLING_MODE_MODEL:
      return "model";
    case v1::POOLING_MODE_CLS:
      return "cls";
    case v1::POOLING_MODE_MAX:
      return "max";
    case v1::POOLING_MODE_LAST:
      return "last";
    default:
      return "mean";
  }
}

class InferWriter {
 public:
  explicit InferWriter(const v1::AttendRequest& request) : request_(request) {}

  inference::ModelInferRequest Write() && {
    infer_.set_model_name(request_.model());
    infer_.set_model_version(request_.model_version());
    infer_.set_id(request_.request_id());
    if (request_.has_query()) Tensor("query", request_.query());
    if (request_.has_key()) Tensor("key", request_.key());
    if (request_.has_value()) Tensor("value", request_.value());
    if (request_.has_mask()) Tensor("attention_mask", request_.mask());
    if (request_.has_token_ids()) Tensor("input_ids", request_.token_ids());
    if (request_.has_token_types()) Tensor("token_type_ids", request_.token_types());
    while (next_ < request_.payloads_size()) infer_.add_raw_input_contents(request_.payloads(next_++));
    List("seq_lens", request_.seq_lens());
    List("kv_seq_lens", request_.kv_seq_lens());
    Options();
    for (const v1::OutputSpec& output : request_.outputs()) Output(output);
    return std::move(infer_);
  }

 private:
  void Tensor(const char* name, const v1::TensorSpec& spec) {
    auto& input = *infer_.add_inputs();
    input.set_name(name);
    input.set_datatype(DatatypeOfProto(spec.dtype()));
    *input.mutable_shape() = spec.shape();
    if (next_ < request_.payloads_size()) infer_.add_raw_input_contents(request_.payloads(next_++));
  }

  void List(const char* name, const google::protobuf::RepeatedField<int64_t>& numbers) {
    if (numbers.empty()) return;
    AddInput(name, "INT64", {numbers.size()}, BytesOfNumbers(numbers), infer_);
  }

  InferParameter& Parameter(const char* name) { return (*infer_.mutable_parameters())[name]; }
  void Number(const char* name, int64_t number, bool there) {
    if (there) Parameter(name).set_int64_param(number);
  }

  void Options() {
    if (request_.causal()) Parameter("causal").set_bool_param(true);
    Number("window_left", request_.window_left(), request_.has_window_left());
    Number("window_right", request_.window_right(), request_.has_window_right());
    Number("timeout", request_.timeout_us(), request_.timeout_us() != 0);
    Number("dimensions", request_.dimensions(), request_.dimensions() != 0);
    if (request_.output_dtype() != v1::DTYPE_UNSPECIFIED) {
      Parameter("output_dtype").set_string_param(DatatypeOfProto(request_.output_dtype()));
    }
    if (request_.pooling() != v1::POOLING_MODE_UNSPECIFIED) {
      Parameter("pooling").set_string_param(NameOfPooling(request_.pooling()));
    }
    const v1::WeightsOptions& weights = request_.weights();
    static constexpr const char* kModes[] = {"none", "none", "full", "mean", "top_k", "summary", "grid"};
    if (weights.mode() != v1::WEIGHTS_MODE_UNSPECIFIED) {
      Parameter("weights").set_string_param(kModes[weights.mode()]);
    }
    Number("weights_top_k", weights.top_k(), weights.top_k() != 0);
    Number("query_begin", weights.query_begin(), weights.query_begin() != 0);
    Number("query_end", weights.query_end(), weights.query_end() != 0);
    Number("layer", weights.layer(), weights.has_layer());
    Number("grid_rows", weights.grid_rows(), weights.grid_rows() != 0);
    Number("grid_cols", weights.grid_cols(), weights.grid_cols() != 0);
    if (weights.layers_size() > 0) Parameter("layers").set_string_param(absl::StrJoin(weights.layers(), ","));
    if (weights.heads_size() > 0) Parameter("heads").set_string_param(absl::StrJoin(weights.heads(), ","));
  }

  void Output(const v1::OutputSpec& spec) {
    infer_.add_outputs()->set_name(NameOfOutput(*headlight::FromProto(spec.kind())));
    if (spec.dtype() == v1::DTYPE_I8) Parameter("vectors_dtype").set_string_param("INT8");
    if (spec.dtype() == v1::DTYPE_BITS) Parameter("vectors_dtype").set_string_param("UINT8");
    if (spec.pooling() != v1::POOLING_MODE_UNSPECIFIED) {
      Parameter("pooling").set_string_param(NameOfPooling(spec.pooling()));
    }
    Number("dimensions", spec.dimensions(), spec.dimensions() != 0);
    Number("sparse_top_k", spec.top_k(), spec.top_k() != 0);
    List("positions", spec.positions());
  }

  const v1::AttendRequest& request_;
  inference::ModelInferRequest infer_;
  int next_ = 0;  // payload
};

}  // namespace

inference::ModelInferRequest AsInfer(const v1::AttendRequest& request) {
  return InferWriter(request).Write();
}

std::string AsInferMessage(std::string message) {
  return absl::StrReplaceAll(message, {{"payloads: ", "raw_input_contents: "},
                                       {"request_id: ", "id: "},
                                       {"model: ", "model_name: "},
                                       {".dtype: ", ".datatype: "},
                                       {"token_ids", "input_ids"},
                                       {"token_types", "token_type_ids"},
                                       {"mask.", "attention_mask."},
                                       {"for mask,", "for attention_mask,"},
                                       {", mask)", ", attention_mask)"},
                                       {"timeout_us: ", "timeout: "},
                                       {"WEIGHTS_MODE_TOP_K", "the weights \"top_k\""},
                                       {"WEIGHTS_MODE_GRID", "the weights \"grid\""},
                                       {"weights.top_k", "weights_top_k"},
                                       {"weights.", ""},
                                       {"got MODEL,", "got \"model\","},
                                       {"DTYPE_F32", "FP32"},
                                       {"DTYPE_BF16", "BF16"},
                                       {"DTYPE_F16", "FP16"},
                                       {"DTYPE_BOOL", "BOOL"},
                                       {"DTYPE_I32", "INT32"},
                                       {"DTYPE_I64", "INT64"}});
}

void AddInput(const std::string& name, const std::string& datatype, const Shape& shape,
              const std::string& bytes, inference::ModelInferRequest& request) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype(datatype);
  input.mutable_shape()->Assign(shape.begin(), shape.end());
  request.add_raw_input_contents(bytes);
}

absl::StatusOr<CheckedInfer> CheckInfer(const ByteSegments& message, const RequestLimits& limits,
                                        const TensorRegions* regions) {
  static BufferPool& pool = *new BufferPool(/*max_idle_bytes=*/1 << 20);
  const OipFace face(OipFace::Method::kModelInfer, {.pool = &pool, .regions = regions});
  CheckedInfer infer;
  HEADLIGHT_ASSIGN_OR_RETURN(infer.request, face.Read(message));
  HEADLIGHT_RETURN_IF_ERROR(infer.request->unreadable);
  HEADLIGHT_RETURN_IF_ERROR(infer.request->Fetch("tenant"));
  HEADLIGHT_ASSIGN_OR_RETURN(infer.checked, CheckRequest(infer.request->fields, limits));
  infer.checked.input.cancelled = std::make_shared<CancellationToken>();
  return infer;
}

inference::ModelInferResponse ParseInferReply(const grpc::ByteBuffer& reply) {
  const auto message = Receive(reply);
  EXPECT_THAT(message, IsOk());
  std::string bytes(message->segments.size_bytes(), '\0');
  message->segments.CopyTo(0, message->segments.size_bytes(),
                           std::as_writable_bytes(std::span(bytes)).data());
  inference::ModelInferResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  return response;
}

}  // namespace headlight::testing
