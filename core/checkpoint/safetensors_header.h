// SPDX-License-Identifier: Apache-2.0
//
// The JSON header of a safetensors file: what it may say, and what it says of the bytes behind it.
#ifndef HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_HEADER_H_
#define HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/shape.h"

namespace headlight {

inline constexpr absl::string_view kSafetensorsMetadataKey = "__metadata__";
inline constexpr size_t kMaxTensorNameBytes = 1024;
inline constexpr size_t kMaxTensorRank = 64;
// Of tensors, and of metadata, in one file. A header that is all names could otherwise take many times its
// own size in memory.
inline constexpr size_t kMaxSafetensorsEntries = size_t{1} << 17;

// Bits of one element of a dtype of the format ("F32": 32), or nothing if there is no such dtype.
std::optional<int64_t> SafetensorsDtypeBits(absl::string_view dtype);

struct SafetensorsHeader {
  struct Tensor {
    std::string dtype;
    Shape shape;
    int64_t begin = 0;  // of its bytes, counted from the end of the header
    int64_t end = 0;
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Reads a header and checks all of it: the form of the JSON, unique names, dtypes, shapes, and the offsets,
// which divide `data_bytes` bytes among the tensors without overlap or rest. INVALID_ARGUMENT: a sentence
// that begins with `name` and names the tensor. RESOURCE_EXHAUSTED: memory is short.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json, int64_t data_bytes,
                                                         const std::string& name);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_HEADER_H_
