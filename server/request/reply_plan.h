// SPDX-License-Identifier: Apache-2.0
//
// What a reply will hold, known before anything is computed, and whether it fits into a message.
#ifndef HEADLIGHT_SERVER_REQUEST_REPLY_PLAN_H_
#define HEADLIGHT_SERVER_REQUEST_REPLY_PLAN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"
#include "server/models/registry.h"

namespace headlight {

// What whoever writes a reply must know beside the result.
struct ReplyPlan {
  std::shared_ptr<const LoadedModel> model;
  std::string request_id;
  DType dtype = DType::kF32;  // of output, weights and received_mass
  Shape output;
  Shape weights;  // empty if there are none, and so are the next two
  Shape weights_keys;
  Shape received_mass;
  int64_t padded_len = 0;       // 0: output rows follow each other; else rows of output between two sequences
  std::vector<int64_t> q_lens;  // real rows of each sequence; used with padded_len only
  int64_t payload_bytes = 0;    // of all tensors
};

// A tensor of the reply.
struct ReplyTensor {
  const char* name;
  const Shape& shape;  // empty if the reply has none
  DType dtype;

  // Nothing if they exceed int64.
  std::optional<int64_t> SizeBytes() const;
};

// Whether `tensors` fit into a message. INVALID_ARGUMENT with the size of each otherwise.
absl::Status CheckReplySize(std::span<const ReplyTensor> tensors, int64_t max_message_bytes);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_REPLY_PLAN_H_
