// SPDX-License-Identifier: Apache-2.0
#include "server/request/reply_plan.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace headlight {
namespace {

constexpr int64_t kReplyEnvelopeBytes = 4096;  // more than the fields of a reply beside its payloads take

}  // namespace

std::optional<int64_t> ReplyTensor::SizeBytes() const {
  if (shape.empty()) return 0;
  const std::optional<int64_t> elements = NumElements(shape);
  int64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, SizeOf(dtype), &bytes)) return std::nullopt;
  return bytes / elements_per_byte;
}

absl::Status CheckReplySize(std::span<const ReplyTensor> tensors, int64_t max_message_bytes) {
  int64_t room = max_message_bytes - kReplyEnvelopeBytes;
  bool fits = true;
  for (const ReplyTensor& tensor : tensors) {
    const std::optional<int64_t> bytes = tensor.SizeBytes();
    fits = fits && bytes && *bytes <= room;
    if (fits) room -= *bytes;
  }
  if (fits) return absl::OkStatus();
  std::vector<std::string> sizes;
  for (const ReplyTensor& tensor : tensors) {
    if (tensor.shape.empty()) continue;
    const std::optional<int64_t> bytes = tensor.SizeBytes();
    sizes.push_back(absl::StrCat(tensor.name, " ", ToString(tensor.shape), " ",
                                 bytes ? absl::StrCat(*bytes) : "more than 2^63", " bytes"));
  }
  return absl::InvalidArgumentError(absl::StrCat("the reply would be too large: ", absl::StrJoin(sizes, ", "),
                                                 "; a message may have ", max_message_bytes,
                                                 " (--max-message-bytes)"));
}

}  // namespace headlight
