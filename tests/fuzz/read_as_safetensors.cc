// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/read_as_safetensors.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/safetensors_header.h"

namespace headlight::testing {
namespace {

void Check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

}  // namespace

bool ReadAsSafetensors(std::span<const std::byte> bytes) {
  const auto file = SafetensorsFile::FromBytes(bytes, "fuzzed");
  if (!file.ok()) {
    const std::string message(file.status().message());
    Check(file.status().code() == absl::StatusCode::kInvalidArgument, "what is wrong is an invalid argument");
    Check(message.starts_with("fuzzed: "), "a message begins with the file's name");
    Check(message.size() < 2048, "a message is short");
    Check(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }),
          "a message is printable");
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
