// SPDX-License-Identifier: Apache-2.0
//
// Files of named tensors in the safetensors format: 8 bytes of header length (little-endian), a JSON header,
// then the tensors' bytes. Read by mapping the file; every fact of the header is checked before it is used.
#ifndef HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_H_
#define HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/shape.h"

namespace headlight {

// One tensor of a file. `bytes` lies in the mapped file and lives as long as the file's object; it need not
// be aligned.
struct SafetensorsEntry {
  std::string dtype;  // as the file says: "F32", "F16", "BF16", "F64", "I64", "BOOL", ...
  Shape shape;        // may be empty (a scalar); dimensions may be 0
  std::span<const std::byte> bytes;
};

// Immutable, thread-safe.
class SafetensorsFile {
 public:
  // Maps the file and checks its header: lengths inside the file, header of at most kMaxHeaderBytes, JSON
  // depth, names (unique, at most 1024 bytes), dtypes that exist, shapes whose product fits, shape x dtype ==
  // bytes, offsets in order, inside the file, without overlap or gap. Memory for it is bounded by the bytes
  // of the header, and by 131072 tensors. NOT_FOUND or PERMISSION_DENIED: it cannot be
  // opened. INVALID_ARGUMENT: a sentence that names the file, the tensor and the fact. Touches no tensor bytes.
  // The file must not be truncated while it is mapped: replace files by renaming.
  static absl::StatusOr<std::unique_ptr<const SafetensorsFile>> Open(const std::string& path);
  // The same for bytes in memory, which must outlive the object; `name` stands for the path in messages.
  static absl::StatusOr<std::unique_ptr<const SafetensorsFile>> FromBytes(std::span<const std::byte> bytes,
                                                                          const std::string& name);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // "__metadata__"

  static constexpr int64_t kMaxHeaderBytes = int64_t{100} << 20;

 private:
  SafetensorsFile() = default;
  absl::Status Parse(std::span<const std::byte> bytes, const std::string& name);

  void* mapping_ = nullptr;  // null for FromBytes
  size_t mapping_bytes_ = 0;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Elements [first, first + count) of a tensor of F32, F16, BF16 or F64 (rounded to nearest, beyond f32 to
// infinity) as f32.
void CopyAsF32(const SafetensorsEntry& entry, int64_t first, int64_t count, float* out);

// All elements of a floating-point tensor, as CopyAsF32, row-major. `where` names file and tensor in messages.
// INVALID_ARGUMENT: it has another dtype. RESOURCE_EXHAUSTED: memory is short.
absl::StatusOr<std::vector<float>> ReadF32(const SafetensorsEntry& entry, const std::string& where);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_SAFETENSORS_H_
