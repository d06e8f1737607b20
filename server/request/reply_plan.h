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
#include "server/batch/batch_input.h"
#include "server/models/registry.h"

namespace headlight {

// One of several outputs.
struct PlannedOutput {
  OutputKind kind = OutputKind::kHiddenStates;
  DType dtype = DType::kF32;
  OutputEncoding encoding = OutputEncoding::kFloat;
  Shape shape;                // of its values as they are described; of kSparse at most
  bool padded = false;        // as padded_len says
  std::vector<int64_t> lens;  // of kTokenVectors: rows of each sequence
  Shape scale;                // of kInt8; else empty
  int64_t copies = 1;         // in the reply
  int64_t classes = 0;        // of kScores: only so many of each row, the largest; 0: all
  Shape lens_shape;           // of the list of lens that the reply has; empty if it has none
};

// What whoever writes a reply must know beside the result.
struct ReplyPlan {
  std::shared_ptr<const LoadedModel> model;
  std::string request_id;
  DType dtype = DType::kF32;  // of output, weights and received_mass
  Shape output;               // empty where there are `outputs`
  Shape weights;              // empty if there are none, and so are the next two
  Shape weights_keys;
  Shape received_mass;
  int64_t padded_len = 0;       // 0: output rows follow each other; else rows of output between two sequences
  std::vector<int64_t> q_lens;  // real rows of each sequence; used with padded_len only
  std::vector<PlannedOutput> outputs;
  int64_t payload_bytes = 0;  // of all tensors, at most
};

// A tensor of the reply.
struct ReplyTensor {
  const char* name;
  const Shape& shape;  // empty if the reply has none
  DType dtype;
  int64_t elements_per_byte = 1;  // 8 where an element is a bit, of a dtype that is a byte

  // Nothing if they exceed int64.
  std::optional<int64_t> SizeBytes() const;
};

// Whether `tensors` fit into a message. INVALID_ARGUMENT with the size of each otherwise.
absl::Status CheckReplySize(std::span<const ReplyTensor> tensors, int64_t max_message_bytes);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_REPLY_PLAN_H_
