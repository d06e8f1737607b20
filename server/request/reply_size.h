// SPDX-License-Identifier: Apache-2.0
//
// Whether what a request asks for fits into a message.
#ifndef HEADLIGHT_SERVER_REQUEST_REPLY_SIZE_H_
#define HEADLIGHT_SERVER_REQUEST_REPLY_SIZE_H_

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "core/tensor/dtype.h"
#include "core/tensor/shape.h"

namespace headlight {

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

#endif  // HEADLIGHT_SERVER_REQUEST_REPLY_SIZE_H_
