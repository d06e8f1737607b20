// SPDX-License-Identifier: Apache-2.0
#include "server/oip/oip_face.h"

#include <grpcpp/support/slice.h>

#include <utility>

#include "core/base/status_macros.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/infer_reply.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

// Requests of one stream that are read before the first of them is answered.
constexpr int kMaxUnanswered = 32;

}  // namespace

ExchangeRules OipFace::rules() const {
  if (method_ == Method::kModelInfer) return {};
  return {.unary = false, .window = kMaxUnanswered, .order = ReplyOrder::kAsRequested};
}

absl::StatusOr<std::unique_ptr<FaceRequest>> OipFace::Read(const ByteSegments& message) const {
  HEADLIGHT_ASSIGN_OR_RETURN(ParsedInfer parsed, ParseInfer(message));
  return std::make_unique<InferRequest>(std::move(parsed), memory_);
}

absl::StatusOr<grpc::ByteBuffer> OipFace::WriteReply(const FaceRequest& request, const ReplyPlan& plan,
                                                     const BatchResult& result,
                                                     const ReplyTimes& /*times*/) const {
  const auto& asked = static_cast<const InferRequest&>(request);
  return EncodeInfer({.tensors = asked.tensors(),
                      .tenant = asked.tenant(),
                      .regions = memory_.regions,
                      .of_stream = method_ == Method::kModelStreamInfer},
                     plan, result);
}

std::optional<grpc::ByteBuffer> OipFace::WriteError(const FaceRequest* request,
                                                    const Refusal& refusal) const {
  if (method_ == Method::kModelInfer || request == nullptr) return std::nullopt;
  inference::ModelStreamInferResponse response;
  response.set_error_message(ToGrpcStatus(refusal.status).error_message());  // as long as a unary call's
  inference::ModelInferResponse& of_request = *response.mutable_infer_response();
  of_request.set_id(request->fields.request_id);
  // The protocol has no place for more; whoever looks for it finds here what a unary call ends with.
  auto& parameters = *of_request.mutable_parameters();
  parameters["grpc_status"].set_int64_param(static_cast<int64_t>(refusal.status.code()));
  if (!refusal.reason.empty()) parameters["reason"].set_string_param(refusal.reason);
  if (const int64_t delay_ms = RetryDelayMs(refusal); delay_ms > 0) {
    parameters["retry_delay_ms"].set_int64_param(delay_ms);
  }
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace headlight
