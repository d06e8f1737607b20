// SPDX-License-Identifier: Apache-2.0
//
// From a result to the bytes of a ModelInferResponse.
#ifndef HEADLIGHT_SERVER_OIP_INFER_REPLY_H_
#define HEADLIGHT_SERVER_OIP_INFER_REPLY_H_

#include <grpcpp/support/byte_buffer.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/batch/batch_result.h"
#include "server/oip/output_names.h"
#include "server/oip/tensor_regions.h"
#include "server/request/reply_plan.h"

namespace headlight {

// Whose reply it is, and in what it goes.
struct InferReplyForm {
  const std::vector<AskedTensor>& tensors;
  const std::string& tenant;
  const TensorRegions* regions = nullptr;  // never null where a tensor has a place
  bool of_stream = false;                  // inside of a ModelStreamInferResponse
};

// The reply's message, ready to send. Its slices hold on to the result's memory until gRPC has sent them;
// tensors that have a place are written there. Errors as TensorRegions::Write.
absl::StatusOr<grpc::ByteBuffer> EncodeInfer(const InferReplyForm& form, const ReplyPlan& plan,
                                             const BatchResult& result);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_INFER_REPLY_H_
