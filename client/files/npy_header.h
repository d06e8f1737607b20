// SPDX-License-Identifier: Apache-2.0
//
// The header of a NumPy .npy file: magic bytes, version, and a Python dictionary that says what the array is.
// npy.h reads and writes whole files; the format is described in NumPy's documentation as numpy.lib.format.
#ifndef HEADLIGHT_CLIENT_FILES_NPY_HEADER_H_
#define HEADLIGHT_CLIENT_FILES_NPY_HEADER_H_

#include <istream>
#include <string>

#include "absl/status/statusor.h"
#include "client/tensor.h"

namespace headlight::client {

struct NpyHeader {
  std::string dtype;  // as NumPy writes it: "<f4"
  bool fortran_order = false;
  Shape shape;
  size_t header_bytes = 0;  // before the array
};

// Limits on what a header may say, far beyond any tensor that the server takes.
inline constexpr size_t kMaxNpyHeaderBytes = 64 << 10;
inline constexpr size_t kMaxNpyRank = 32;

// Reads the header and leaves `in` at the first byte of the array. INVALID_ARGUMENT if it is not one of
// version 1, 2 or 3, if it is cut short, or if its dictionary is not exactly what NumPy writes: descr,
// fortran_order and shape.
absl::StatusOr<NpyHeader> ReadNpyHeader(std::istream& in);

// A version 1 header in C order, padded so that the array begins at a multiple of 64 bytes.
std::string FormatNpyHeader(const std::string& dtype, const Shape& shape);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_FILES_NPY_HEADER_H_
