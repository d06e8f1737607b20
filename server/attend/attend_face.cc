// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attend_face.h"

#include <grpcpp/support/slice.h>

#include <utility>

#include "core/base/status_macros.h"
#include "server/attend/attend_reply.h"
#include "server/attend/attend_request.h"
#include "server/attend/refusal_message.h"

namespace headlight {
namespace {

class ReadRequest final : public FaceRequest {
 public:
  ParsedAttend parsed;  // `fields` points into it
};

v1::TimeBudget BudgetOf(const ReplyPlan& plan, const BatchResult& result, const ReplyTimes& times) {
  v1::TimeBudget budget;
  budget.set_queue_us(times.queue_us);
  budget.set_pack_us(result.pack_us);
  budget.set_compute_us(result.compute_us);
  budget.set_unpack_us(result.unpack_us);
  budget.set_total_us(times.total_us);
  budget.set_predicted_us(times.predicted_us);
  budget.set_batch_requests(result.batch_requests);
  budget.set_batch_sequences(result.batch_sequences);
  budget.set_batch_tokens(result.batch_tokens);
  budget.set_kernel(plan.model->model.attention().kernel_name());
  budget.set_compute_threads(times.compute_threads);
  return budget;
}

}  // namespace

ExchangeRules AttendFace::rules() const {
  return method_ == Method::kAttend ? ExchangeRules{}
                                    : ExchangeRules{.unary = false, .window = kMaxStreamRequests};
}

absl::StatusOr<std::unique_ptr<FaceRequest>> AttendFace::Read(const ByteSegments& message) const {
  auto request = std::make_unique<ReadRequest>();
  HEADLIGHT_ASSIGN_OR_RETURN(request->parsed, ParseAttend(message));
  request->fields.request_id = request->parsed.request.request_id();
  request->unreadable = absl::OkStatus();
  absl::StatusOr<RequestFields> fields = FieldsOf(request->parsed);
  if (fields.ok()) {
    request->fields = *std::move(fields);
  } else {
    request->unreadable = fields.status();
  }
  return request;
}

absl::StatusOr<grpc::ByteBuffer> AttendFace::WriteReply(const FaceRequest& /*request*/, const ReplyPlan& plan,
                                                        const BatchResult& result,
                                                        const ReplyTimes& times) const {
  return EncodeAttend(plan, result, BudgetOf(plan, result, times));
}

std::optional<grpc::ByteBuffer> AttendFace::WriteError(const FaceRequest* request,
                                                       const Refusal& refusal) const {
  if (method_ == Method::kAttend || request == nullptr) return std::nullopt;
  v1::AttendResponse response;
  response.set_request_id(request->fields.request_id);
  *response.mutable_error() = ErrorOf(refusal);
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace headlight
