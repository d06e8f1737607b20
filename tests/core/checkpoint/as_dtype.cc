// SPDX-License-Identifier: Apache-2.0
#include "tests/core/checkpoint/as_dtype.h"

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/safetensors.h"
#include "core/tensor/convert.h"

namespace headlight::testing {

absl::Status RewriteAs(DType dtype, const std::string& folder) {
  const std::string path = folder + "/model.safetensors";
  HEADLIGHT_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  std::string header = "{";
  std::vector<std::byte> data;
  const std::string name_of_dtype = dtype == DType::kF32 ? "F32" : dtype == DType::kF16 ? "F16" : "BF16";
  for (const auto& [name, entry] : file->entries()) {
    HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<float> values, ReadF32(entry, name));
    const size_t begin = data.size();
    data.resize(begin + values.size() * SizeOf(dtype));
    ConvertFromF32(values.data(), static_cast<int64_t>(values.size()), dtype, data.data() + begin);
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name, "\":{\"dtype\":\"", name_of_dtype,
                    "\",\"shape\":[", absl::StrJoin(entry.shape, ","), "],\"data_offsets\":[", begin, ",",
                    data.size(), "]}");
  }
  header += "}";
  // Another file in its place: the old one is mapped.
  const std::string temporary = path + ".new";
  {
    std::ofstream out(temporary, std::ios::binary);
    const uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof(length));
    out << header;
    out.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
    if (!out.flush()) return absl::InternalError("cannot write " + temporary);
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::InternalError("cannot rename " + temporary);
  }
  return absl::OkStatus();
}

}  // namespace headlight::testing
