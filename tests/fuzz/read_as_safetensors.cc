// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/read_as_safetensors.h"

#include <string>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/safetensors_header.h"
#include "tests/fuzz/promise.h"

namespace headlight::testing {

bool ReadAsSafetensors(std::span<const std::byte> bytes) {
  const auto file = SafetensorsFile::FromBytes(bytes, "fuzzed");
  if (!file.ok()) {
    Check(std::string(file.status().message()).starts_with("fuzzed: "),
          "a message begins with the file's name");
    CheckRefusal(file.status());
    return false;
  }
  size_t covered = 0;
  for (const auto& [name, entry] : (*file)->entries()) {
    Check(name.size() <= kMaxTensorNameBytes, "names are at most 1024 bytes");
    Check(bytes.data() <= entry.bytes.data() &&
              entry.bytes.data() + entry.bytes.size() <= bytes.data() + bytes.size(),
          "tensors lie inside the file");
    covered += entry.bytes.size();
    const auto bits = SafetensorsDtypeBits(entry.dtype);
    const auto elements = NumElements(entry.shape);
    Check(bits && elements &&
              static_cast<size_t>(*elements) * static_cast<size_t>(*bits) == entry.bytes.size() * 8,
          "dtype and shape make the bytes");
    const auto values = ReadF32(entry, name);  // reads every byte of a tensor that it takes
    Check(!values.ok() || values->size() == static_cast<size_t>(*elements), "all elements are read");
    Check(values.ok() ==
              (entry.dtype == "F32" || entry.dtype == "F16" || entry.dtype == "BF16" || entry.dtype == "F64"),
          "floating-point tensors are read as f32");
  }
  Check(covered + 8 <= bytes.size(), "tensors do not overlap");
  return true;
}

}  // namespace headlight::testing
