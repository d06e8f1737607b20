// SPDX-License-Identifier: Apache-2.0
//
// Attend and AttendStream of headlight.v1, as exchanges see them.
#ifndef HEADLIGHT_SERVER_ATTEND_ATTEND_FACE_H_
#define HEADLIGHT_SERVER_ATTEND_ATTEND_FACE_H_

#include <memory>
#include <optional>

#include "server/request/face.h"

namespace headlight {

// Requests of one AttendStream that are read before the first of them is answered; attention.proto tells
// callers.
inline constexpr int kMaxStreamRequests = 32;

class AttendFace final : public Face {
 public:
  enum class Method : uint8_t { kAttend, kAttendStream };

  static constexpr char kService[] = "headlight.v1.AttentionService";

  explicit AttendFace(Method method) : method_(method) {}

  const char* service() const override { return kService; }
  const char* method() const override { return method_ == Method::kAttend ? "Attend" : "AttendStream"; }
  ExchangeRules rules() const override;
  absl::StatusOr<std::unique_ptr<FaceRequest>> Read(const ByteSegments& message) const override;
  absl::StatusOr<grpc::ByteBuffer> WriteReply(const FaceRequest& request, const ReplyPlan& plan,
                                              const BatchResult& result,
                                              const ReplyTimes& times) const override;
  std::optional<grpc::ByteBuffer> WriteError(const FaceRequest* request,
                                             const Refusal& refusal) const override;

 private:
  const Method method_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_ATTEND_FACE_H_
