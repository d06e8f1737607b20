// SPDX-License-Identifier: Apache-2.0
#include "client/npy.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/files/named.h"
#include "client/files/npy_header.h"
#include "client/half.h"

namespace headlight::client {
namespace {

static_assert(std::endian::native == std::endian::little, "arrays are little-endian and copied as they are");

// An array of which the header has been read.
struct NpyArray {
  const NpyHeader& header;
  std::istream& in;
  std::optional<int64_t> size_bytes;  // of header and values, where somebody knows
};

// Bytes behind the header; nothing if that cannot be found out.
std::optional<int64_t> LeftBytes(const NpyArray& array) {
  if (array.size_bytes) return *array.size_bytes - static_cast<int64_t>(array.header.header_bytes);
  const std::streamoff begin = array.in.tellg();
  array.in.seekg(0, std::ios::end);
  const int64_t left_bytes = static_cast<int64_t>(array.in.tellg() - begin);
  array.in.seekg(begin);
  if (!array.in) return std::nullopt;
  return left_bytes;
}

// Checks that exactly the array that its header describes is left, and gives its number of elements.
absl::StatusOr<size_t> CheckSize(const NpyArray& array, size_t element_bytes) {
  const NpyHeader& header = array.header;
  if (header.fortran_order && header.shape.size() > 1) {
    return absl::InvalidArgumentError(
        "the array is in Fortran order, wanted C order: save it through numpy.ascontiguousarray");
  }
  const std::optional<int64_t> num_elements = NumElements(header.shape);
  if (!num_elements ||
      *num_elements > std::numeric_limits<int64_t>::max() / static_cast<int64_t>(element_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("the shape ", ToString(header.shape), " overflows"));
  }
  const std::optional<int64_t> left_bytes = LeftBytes(array);
  if (!left_bytes)
    return absl::InvalidArgumentError("the array's size cannot be found out: it must be a regular file");
  const int64_t wanted_bytes = *num_elements * static_cast<int64_t>(element_bytes);
  if (*left_bytes != wanted_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the shape ", ToString(header.shape), " of dtype ",
                                                   Named(header.dtype), " wants ", wanted_bytes,
                                                   " bytes, got ", *left_bytes));
  }
  return static_cast<size_t>(*num_elements);
}

// The array as it is stored.
template <typename Stored>
absl::StatusOr<std::vector<Stored>> ReadStored(const NpyArray& array) {
  const absl::StatusOr<size_t> num_elements = CheckSize(array, sizeof(Stored));
  if (!num_elements.ok()) return num_elements.status();
  std::vector<Stored> stored(*num_elements);
  array.in.read(static_cast<char*>(static_cast<void*>(stored.data())),
                static_cast<std::streamsize>(stored.size() * sizeof(Stored)));
  if (!array.in) return absl::InvalidArgumentError("the array cannot be read to its end");
  return stored;
}

template <typename Stored, typename Convert>
absl::StatusOr<std::vector<float>> ReadConverted(const NpyArray& array, Convert convert) {
  const absl::StatusOr<std::vector<Stored>> stored = ReadStored<Stored>(array);
  if (!stored.ok()) return stored.status();
  std::vector<float> values(stored->size());
  std::transform(stored->begin(), stored->end(), values.begin(), convert);
  return values;
}

absl::StatusOr<std::vector<float>> ReadFloats(const NpyArray& array, const std::string& wanted) {
  const std::string& dtype = array.header.dtype;
  if (dtype == "<f4") return ReadStored<float>(array);
  if (dtype == "<f8") {
    return ReadConverted<double>(array, [](double value) { return static_cast<float>(value); });
  }
  if (dtype == "<f2") return ReadConverted<uint16_t>(array, HalfToFloat);
  return absl::InvalidArgumentError(absl::StrCat("dtype: got ", Named(dtype), ", wanted ", wanted));
}

template <typename Result>
absl::StatusOr<Result> ReadFile(const std::string& path, std::string* dtype,
                                absl::StatusOr<Result> (*read)(std::istream&, std::optional<int64_t>,
                                                               std::string*)) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  absl::StatusOr<Result> result = read(in, std::nullopt, dtype);
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        absl::StrCat(path, ": ", std::string(result.status().message())));
  }
  return result;
}

template <typename T>
void WriteArray(const char* dtype, const Shape& shape, const std::vector<T>& values, std::ostream& out) {
  out << FormatNpyHeader(dtype, shape);
  out.write(static_cast<const char*>(static_cast<const void*>(values.data())),
            static_cast<std::streamsize>(values.size() * sizeof(T)));
}

template <typename Write>
absl::Status WriteFile(const std::string& path, Write write) {
  std::ofstream out(path, std::ios::binary);
  if (out) write(out);
  out.close();
  if (!out) return absl::UnavailableError(absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Tensor> ReadNpyTensor(std::istream& in, std::optional<int64_t> size_bytes,
                                     std::string* dtype) {
  absl::StatusOr<NpyHeader> header = ReadNpyHeader(in);
  if (!header.ok()) return header.status();
  if (dtype != nullptr) *dtype = header->dtype;
  const NpyArray array{.header = *header, .in = in, .size_bytes = size_bytes};
  absl::StatusOr<std::vector<float>> values = ReadFloats(array, "'<f4', '<f8' or '<f2'");
  if (!values.ok()) return values.status();
  return Tensor{.shape = std::move(header->shape), .values = *std::move(values)};
}

absl::StatusOr<Mask> ReadNpyMask(std::istream& in, std::optional<int64_t> size_bytes, std::string* dtype) {
  absl::StatusOr<NpyHeader> header = ReadNpyHeader(in);
  if (!header.ok()) return header.status();
  if (dtype != nullptr) *dtype = header->dtype;
  const NpyArray array{.header = *header, .in = in, .size_bytes = size_bytes};
  Mask mask{.shape = header->shape};
  if (header->dtype == "|b1" || header->dtype == "|u1") {
    absl::StatusOr<std::vector<uint8_t>> allowed = ReadStored<uint8_t>(array);
    if (!allowed.ok()) return allowed.status();
    mask.values = *std::move(allowed);
  } else {
    absl::StatusOr<std::vector<float>> added = ReadFloats(array, "'|b1', '|u1', '<f4', '<f8' or '<f2'");
    if (!added.ok()) return added.status();
    mask.values = *std::move(added);
  }
  return mask;
}

absl::StatusOr<Ids> ReadNpyIds(std::istream& in, std::optional<int64_t> size_bytes, std::string* dtype) {
  absl::StatusOr<NpyHeader> header = ReadNpyHeader(in);
  if (!header.ok()) return header.status();
  if (dtype != nullptr) *dtype = header->dtype;
  const NpyArray array{.header = *header, .in = in, .size_bytes = size_bytes};
  Ids ids{.shape = header->shape};
  const auto read = [&](auto stored) -> absl::Status {
    if (stored.ok()) ids.values = *std::move(stored);
    return stored.status();
  };
  absl::Status status;
  if (header->dtype == "<i4") {
    status = read(ReadStored<int32_t>(array));
  } else if (header->dtype == "<i8") {
    status = read(ReadStored<int64_t>(array));
  } else {
    status = absl::InvalidArgumentError(
        absl::StrCat("dtype: got ", Named(header->dtype), ", wanted '<i4' or '<i8'"));
  }
  if (!status.ok()) return status;
  return ids;
}

absl::StatusOr<Tensor> ReadNpyTensorFile(const std::string& path, std::string* dtype) {
  return ReadFile(path, dtype, ReadNpyTensor);
}
absl::StatusOr<Mask> ReadNpyMaskFile(const std::string& path, std::string* dtype) {
  return ReadFile(path, dtype, ReadNpyMask);
}
absl::StatusOr<Ids> ReadNpyIdsFile(const std::string& path, std::string* dtype) {
  return ReadFile(path, dtype, ReadNpyIds);
}

void WriteNpy(const Tensor& tensor, std::ostream& out, NpyFloat dtype) {
  if (dtype == NpyFloat::kF16) {
    std::vector<uint16_t> halves(tensor.values.size());
    std::transform(tensor.values.begin(), tensor.values.end(), halves.begin(), FloatToHalf);
    WriteArray("<f2", tensor.shape, halves, out);
  } else {
    WriteArray("<f4", tensor.shape, tensor.values, out);
  }
}

void WriteIntNpy(const IntTensor& tensor, std::ostream& out) {
  WriteArray("<i4", tensor.shape, tensor.values, out);
}

void WriteByteNpy(const ByteTensor& tensor, std::ostream& out) {
  WriteArray(tensor.is_signed ? "|i1" : "|u1", tensor.shape, tensor.values, out);
}

absl::Status WriteNpyFile(const Tensor& tensor, const std::string& path, NpyFloat dtype) {
  return WriteFile(path, [&](std::ostream& out) { WriteNpy(tensor, out, dtype); });
}

absl::Status WriteIntNpyFile(const IntTensor& tensor, const std::string& path) {
  return WriteFile(path, [&](std::ostream& out) { WriteIntNpy(tensor, out); });
}

absl::Status WriteByteNpyFile(const ByteTensor& tensor, const std::string& path) {
  return WriteFile(path, [&](std::ostream& out) { WriteByteNpy(tensor, out); });
}

}  // namespace headlight::client
