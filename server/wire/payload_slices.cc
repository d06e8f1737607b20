// SPDX-License-Identifier: Apache-2.0
#include "server/wire/payload_slices.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "server/wire/crc32c.h"

namespace headlight {
namespace {

// Below this size of a padded sequence its rows are copied into place: a slice costs more than copying so
// little.
constexpr int64_t kMinSliceBytes = int64_t{16} << 10;

// Zeros that any number of replies may point at. Not const, so that it takes no room in the program file.
constexpr int64_t kZerosBytes = int64_t{256} << 10;
alignas(64) char zeros[kZerosBytes];

// A slice of memory that `owner` keeps alive.
grpc::Slice SliceOf(std::shared_ptr<const void> owner, int64_t size_bytes) {
  using Owner = std::shared_ptr<const void>;
  void* const data = const_cast<void*>(owner.get());  // gRPC only reads, but asks for void*
  return grpc::Slice(
      data, size_bytes, [](void* held) { delete static_cast<Owner*>(held); }, new Owner(std::move(owner)));
}

// Tag and length of a field of bytes.
grpc::Slice HeaderOf(uint32_t field, int64_t size_bytes) {
  using google::protobuf::io::CodedOutputStream;
  uint8_t header[15];
  uint8_t* end = CodedOutputStream::WriteVarint32ToArray((field << 3) | 2, header);
  end = CodedOutputStream::WriteVarint64ToArray(size_bytes, end);
  return {header, static_cast<size_t>(end - header)};
}

}  // namespace

uint32_t PayloadSlices::Add(std::shared_ptr<const void> data, int64_t size_bytes) {
  AddHeader(size_bytes);
  return AddRows(0, std::move(data), size_bytes);
}

uint32_t PayloadSlices::AddPadded(const std::shared_ptr<const void>& rows, std::span<const int64_t> lens,
                                  int64_t padded_len, int64_t row_bytes) {
  const int64_t padded_bytes = padded_len * row_bytes;
  const int64_t all_bytes = std::ssize(lens) * padded_bytes;
  AddHeader(all_bytes);
  const std::byte* from = static_cast<const std::byte*>(rows.get());
  if (padded_bytes >= kMinSliceBytes) {
    uint32_t crc = 0;
    for (int64_t len : lens) {
      crc = AddRows(crc, {rows, from}, len * row_bytes);
      crc = AddZeros(crc, padded_bytes - len * row_bytes);
      from += len * row_bytes;
    }
    return crc;
  }
  grpc::Slice copy(all_bytes);
  uint8_t* to = const_cast<uint8_t*>(copy.begin());  // ours alone until it is sent
  for (int64_t len : lens) {
    std::memcpy(to, from, len * row_bytes);
    std::memset(to + len * row_bytes, 0, padded_bytes - len * row_bytes);
    to += padded_bytes;
    from += len * row_bytes;
  }
  const uint32_t crc = ExtendCrc32c(0, std::as_bytes(std::span(copy.begin(), copy.size())));
  slices_.push_back(std::move(copy));
  return crc;
}

grpc::ByteBuffer PayloadSlices::Message(const std::string& fields) {
  slices_[1] = grpc::Slice(fields);
  return grpc::ByteBuffer(slices_.data() + 1, slices_.size() - 1);
}

grpc::ByteBuffer PayloadSlices::MessageInside(uint32_t field, const std::string& fields) {
  slices_[1] = grpc::Slice(fields);
  int64_t size_bytes = 0;
  for (size_t i = 1; i < slices_.size(); ++i) size_bytes += static_cast<int64_t>(slices_[i].size());
  slices_[0] = HeaderOf(field, size_bytes);
  return grpc::ByteBuffer(slices_.data(), slices_.size());
}

void PayloadSlices::AddHeader(int64_t size_bytes) { slices_.push_back(HeaderOf(payload_field_, size_bytes)); }

uint32_t PayloadSlices::AddRows(uint32_t crc, std::shared_ptr<const void> data, int64_t size_bytes) {
  const std::span bytes(static_cast<const std::byte*>(data.get()), static_cast<size_t>(size_bytes));
  crc = ExtendCrc32c(crc, bytes);
  slices_.push_back(SliceOf(std::move(data), size_bytes));
  return crc;
}

uint32_t PayloadSlices::AddZeros(uint32_t crc, int64_t num_bytes) {
  for (; num_bytes > 0; num_bytes -= kZerosBytes) {
    const int64_t size_bytes = std::min(num_bytes, kZerosBytes);
    crc = ExtendCrc32c(crc, std::as_bytes(std::span(zeros, static_cast<size_t>(size_bytes))));
    slices_.emplace_back(zeros, size_bytes, grpc::Slice::STATIC_SLICE);
  }
  return crc;
}

}  // namespace headlight
