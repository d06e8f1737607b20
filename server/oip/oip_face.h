// SPDX-License-Identifier: Apache-2.0
//
// ModelInfer and ModelStreamInfer of the Open Inference Protocol, as exchanges see them.
#ifndef HEADLIGHT_SERVER_OIP_OIP_FACE_H_
#define HEADLIGHT_SERVER_OIP_OIP_FACE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "server/oip/infer_request.h"
#include "server/request/face.h"

namespace headlight {

class OipFace final : public Face {
 public:
  enum class Method : uint8_t { kModelInfer, kModelStreamInfer };

  static constexpr char kService[] = "inference.GRPCInferenceService";

  // What `memory` points at must outlive this.
  OipFace(Method method, const InferMemory& memory) : method_(method), memory_(memory) {}

  const char* service() const override { return kService; }
  const char* method() const override {
    return method_ == Method::kModelInfer ? "ModelInfer" : "ModelStreamInfer";
  }
  ExchangeRules rules() const override;
  absl::StatusOr<std::unique_ptr<FaceRequest>> Read(const ByteSegments& message) const override;
  absl::StatusOr<grpc::ByteBuffer> WriteReply(const FaceRequest& request, const ReplyPlan& plan,
                                              const BatchResult& result,
                                              const ReplyTimes& times) const override;
  std::optional<grpc::ByteBuffer> WriteError(const FaceRequest* request,
                                             const Refusal& refusal) const override;

 private:
  const Method method_;
  const InferMemory memory_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_OIP_FACE_H_
