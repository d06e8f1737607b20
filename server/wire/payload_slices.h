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

// The tensors of a message under construction, then the message itself: its other fields may say what adding
// told. Not thread-safe.
class PayloadSlices {
 public:
  // Payloads are entries of field `payload_field`. They come last, so the message is the canonical form where
  // that field has the highest number.
  explicit PayloadSlices(uint32_t payload_field) : payload_field_(payload_field) {}

  // One entry: `size_bytes` bytes at `data`, which is kept alive until gRPC has sent them. Returns the
  // CRC-32C of the entry's bytes, as AddPadded does.
  uint32_t Add(std::shared_ptr<const void> data, int64_t size_bytes);

  // One entry: sequences of lens[i] rows, which follow each other at `rows`, each padded with zeros to
  // `padded_len` rows of `row_bytes` bytes.
  uint32_t AddPadded(const std::shared_ptr<const void>& rows, std::span<const int64_t> lens,
                     int64_t padded_len, int64_t row_bytes);

  // `fields` is the serialised message without its payloads.
  grpc::ByteBuffer Message(const std::string& fields);

  // A message that has the one above as its field `field`.
  grpc::ByteBuffer MessageInside(uint32_t field, const std::string& fields);

 private:
  void AddHeader(int64_t size_bytes);  // tag and length of an entry
  // Each returns the CRC-32C of what `crc` is that of, followed by the bytes.
  uint32_t AddRows(uint32_t crc, std::shared_ptr<const void> data, int64_t size_bytes);
  uint32_t AddZeros(uint32_t crc, int64_t num_bytes);

  const uint32_t payload_field_;
  // The first two are the places of what stands before the payloads.
  std::vector<grpc::Slice> slices_ = std::vector<grpc::Slice>(2);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_PAYLOAD_SLICES_H_
