// SPDX-License-Identifier: Apache-2.0
//
// Tensors that lie outside of messages, as requests see them.
#ifndef HEADLIGHT_SERVER_OIP_TENSOR_REGIONS_H_
#define HEADLIGHT_SERVER_OIP_TENSOR_REGIONS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

// Part of a region that its caller has registered.
struct TensorPlace {
  std::string region;
  uint64_t offset = 0;  // from where the region begins
  uint64_t byte_size = 0;
};

// What was read, owned; `owner` points at its first byte, or is null where there is none.
struct TensorBytes {
  std::shared_ptr<const std::byte> owner;
  int64_t size_bytes = 0;

  std::span<const std::byte> bytes() const { return {owner.get(), static_cast<size_t>(size_bytes)}; }
};

// Thread-safe. Every function takes the tenant who calls: others' regions do not exist for it. Messages name
// the parameters that say a place (shared_memory_region, ...), not the tensor.
class TensorRegions {
 public:
  virtual ~TensorRegions() = default;

  // Whether there is such a place.
  virtual absl::Status Check(const std::string& tenant, const TensorPlace& place) const = 0;

  virtual absl::StatusOr<TensorBytes> Read(const std::string& tenant, const TensorPlace& place) const = 0;

  // Writes `pieces` one after the other to the beginning of `place`, into which they must fit.
  virtual absl::Status Write(const std::string& tenant, const TensorPlace& place,
                             std::span<const std::span<const std::byte>> pieces) const = 0;
};

// What requests are told that name a region where there are none.
absl::Status NoTensorRegions();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_TENSOR_REGIONS_H_
