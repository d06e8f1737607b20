// SPDX-License-Identifier: Apache-2.0
//
// Requests of headlight.v1 said in the Open Inference Protocol, so that one table of them runs over both.
#ifndef HEADLIGHT_TESTS_SERVER_OIP_AS_INFER_H_
#define HEADLIGHT_TESTS_SERVER_OIP_AS_INFER_H_

#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "headlight/v1/attention.pb.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/infer_request.h"
#include "server/request/check_request.h"

namespace headlight::testing {

// The same request. What the protocol cannot say (numbers that no enumeration has, outputs' own types and
// poolings) must not be in it.
inference::ModelInferRequest AsInfer(const v1::AttendRequest& request);

// What is said to a caller of headlight.v1, in the other protocol's names.
std::string AsInferMessage(std::string message);

// A tensor of raw bytes.
void AddInput(const std::string& name, const std::string& datatype, const Shape& shape,
              const std::string& bytes, inference::ModelInferRequest& request);

// The way of a message up to the scheduler. Keeps what the result points at beside the message.
struct CheckedInfer {
  std::unique_ptr<FaceRequest> request;
  CheckedRequest checked;
};
absl::StatusOr<CheckedInfer> CheckInfer(const ByteSegments& message, const RequestLimits& limits,
                                        const TensorRegions* regions = nullptr);

inference::ModelInferResponse ParseInferReply(const grpc::ByteBuffer& reply);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_OIP_AS_INFER_H_
