// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a reply as gRPC sends them: slices over the memory that a batch wrote, in the form of
// protobuf's `repeated bytes`. Nothing is copied but small paddings.
#ifndef HEADLIGHT_SERVER_WIRE_PAYLOAD_SLICES_H_
#define HEADLIGHT_SERVER_WIRE_PAYLOAD_SLICES_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace headlight {

// A message under construction: its fields, then its tensors. Not thread-safe.
class PayloadSlices {
 public:
  // `fields` is the serialised message without its payloads, which are entries of field `payload_field`.
  // Payloads come last, so the result is the canonical form where that field has the highest number.
  PayloadSlices(const std::string& fields, uint32_t payload_field);

  // One entry: `size_bytes` bytes at `data`, which is kept alive until gRPC has sent them.
  void Add(std::shared_ptr<const void> data, int64_t size_bytes);

  // One entry: sequences of lens[i] rows, which follow each other at `rows`, each padded with zeros to
  // `padded_len` rows of `row_bytes` bytes.
  void AddPadded(const std::shared_ptr<const void>& rows, std::span<const int64_t> lens, int64_t padded_len,
                 int64_t row_bytes);

  grpc::ByteBuffer Message() const { return grpc::ByteBuffer(slices_.data(), slices_.size()); }

  // A message that has the one above as its field `field`.
  grpc::ByteBuffer MessageInside(uint32_t field) const;

 private:
  void AddHeader(int64_t size_bytes);  // tag and length of an entry
  void AddZeros(int64_t num_bytes);

  const uint32_t payload_field_;
  std::vector<grpc::Slice> slices_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_PAYLOAD_SLICES_H_
