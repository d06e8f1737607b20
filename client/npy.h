// SPDX-License-Identifier: Apache-2.0
//
// NumPy .npy files to and from tensors. Reading takes C order arrays of dtype '<f4', '<f8' or '<f2'
// (converted to f32), for masks '|b1' and '|u1' too, and for ids '<i4' and '<i8'; everything else is refused
// with what to do about it. Every fact of the header is checked against the file's size before memory is
// taken for it.
#ifndef HEADLIGHT_CLIENT_NPY_H_
#define HEADLIGHT_CLIENT_NPY_H_

#include <cstdint>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/tensor.h"

namespace headlight::client {

// INVALID_ARGUMENT if the contents are not such an array. `size_bytes` is what `in` holds from here on;
// without it, `in` must be seekable. It is read to the end. `dtype`, if not null, gets what the numbers are
// stored as, once that is known.
absl::StatusOr<Tensor> ReadNpyTensor(std::istream& in, std::optional<int64_t> size_bytes = std::nullopt,
                                     std::string* dtype = nullptr);
// '|b1', '|u1': allowed keys; floats: added to the scores.
absl::StatusOr<Mask> ReadNpyMask(std::istream& in, std::optional<int64_t> size_bytes = std::nullopt,
                                 std::string* dtype = nullptr);
absl::StatusOr<Ids> ReadNpyIds(std::istream& in, std::optional<int64_t> size_bytes = std::nullopt,
                               std::string* dtype = nullptr);

// The same of a file. NOT_FOUND if it cannot be opened; every message begins with the path.
absl::StatusOr<Tensor> ReadNpyTensorFile(const std::string& path, std::string* dtype = nullptr);
absl::StatusOr<Mask> ReadNpyMaskFile(const std::string& path, std::string* dtype = nullptr);
absl::StatusOr<Ids> ReadNpyIdsFile(const std::string& path, std::string* dtype = nullptr);

// What numbers are stored as: '<f4', or '<f2' rounded to nearest.
enum class NpyFloat { kF32, kF16 };

// Writes numbers, '<i4', or '|i1' and '|u1', in C order, as numpy.save does. UNAVAILABLE, with the path, if
// the file cannot be written.
void WriteNpy(const Tensor& tensor, std::ostream& out, NpyFloat dtype = NpyFloat::kF32);
void WriteIntNpy(const IntTensor& tensor, std::ostream& out);
void WriteByteNpy(const ByteTensor& tensor, std::ostream& out);
absl::Status WriteNpyFile(const Tensor& tensor, const std::string& path, NpyFloat dtype = NpyFloat::kF32);
absl::Status WriteIntNpyFile(const IntTensor& tensor, const std::string& path);
absl::Status WriteByteNpyFile(const ByteTensor& tensor, const std::string& path);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_NPY_H_
