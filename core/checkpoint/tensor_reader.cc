// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/tensor_reader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Elements that are converted, checked and laid out before the next: they stay in a core's L2 cache.
constexpr int64_t kElementsAtOnce = int64_t{1} << 16;
// Rows that are transposed together: two cache lines of each column.
constexpr int64_t kRowsAtOnce = 32;

// A loop that compilers make vectors of: all bits of the exponent are set in NaN and infinity alone.
bool AllFinite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent);
  }
  return bad == 0;
}

// Makes `out` that large, without its old numbers beside the new ones where it grows.
void Resize(int64_t size, std::vector<float>& out) {
  if (static_cast<int64_t>(out.capacity()) < size) out = std::vector<float>();
  out.resize(size);
}

// How often [first, first + size) and what comes a multiple of `period` later lies below `end` as a whole.
int64_t Times(int64_t end, int64_t first, int64_t size, int64_t period) {
  return first + size > end ? 0 : (end - first - size) / period + 1;
}

// in [rows, cols] -> out, column c at out + c * stride. A tile's reads and writes stay in L1.
void Transpose(const float* in, int64_t rows, int64_t cols, float* out, int64_t stride) {
  constexpr int64_t kCols = 32;
  for (int64_t first = 0; first < cols; first += kCols) {
    const int64_t end = std::min(first + kCols, cols);
    if (rows == kRowsAtOnce) {
      for (int64_t c = first; c < end; ++c) {
        for (int64_t r = 0; r < kRowsAtOnce; ++r) out[c * stride + r] = in[r * cols + c];
      }
    } else {
      for (int64_t c = first; c < end; ++c) {
        for (int64_t r = 0; r < rows; ++r) out[c * stride + r] = in[r * cols + c];
      }
    }
  }
}

}  // namespace

TensorReader::TensorReader(const std::string& name, const SafetensorsEntry& entry)
    : name_(name), entry_(entry), is_f64_(entry.dtype == "F64") {
  if (entry.dtype == "F16") dtype_ = DType::kF16;
  if (entry.dtype == "BF16") dtype_ = DType::kBf16;
  const int64_t elements = *NumElements(entry.shape);
  cols_ = entry.shape.empty() ? 1 : entry.shape.back();
  rows_ = cols_ == 0 ? 0 : elements / cols_;
}

absl::Status TensorReader::Convert(int64_t first, int64_t count, float* out) const {
  CopyAsF32(entry_, first, count, out);
  if (AllFinite(out, count)) return absl::OkStatus();
  const float* const found = std::find_if(out, out + count, [](float x) { return !std::isfinite(x); });
  int64_t place = first + (found - out);
  std::vector<int64_t> index(entry_.shape.size());
  for (size_t i = index.size(); i-- > 0; place /= entry_.shape[i]) index[i] = place % entry_.shape[i];
  return absl::InvalidArgumentError(
      absl::StrCat(name_, "[", absl::StrJoin(index, ", "), "]: got ", *found, ", wanted finite numbers"));
}

absl::Status TensorReader::ReadCols(int64_t first, int64_t size, std::vector<float>& out,
                                    int64_t period) const {
  const int64_t wanted = size == 0 ? cols_ : size;
  if (period > 0) {
    const int64_t times = Times(cols_, first, wanted, period);
    Resize(rows_ * times * wanted, out);
    float* to = out.data();
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t i = 0; i < times; ++i, to += wanted) {
        HEADLIGHT_RETURN_IF_ERROR(Convert(row * cols_ + first + i * period, wanted, to));
      }
    }
    return absl::OkStatus();
  }
  Resize(rows_ * wanted, out);
  if (wanted == cols_) {
    const int64_t elements = rows_ * cols_;
    for (int64_t done = 0; done < elements; done += kElementsAtOnce) {
      HEADLIGHT_RETURN_IF_ERROR(Convert(done, std::min(kElementsAtOnce, elements - done), out.data() + done));
    }
    return absl::OkStatus();
  }
  for (int64_t row = 0; row < rows_; ++row) {
    HEADLIGHT_RETURN_IF_ERROR(Convert(row * cols_ + first, wanted, out.data() + row * wanted));
  }
  return absl::OkStatus();
}

absl::Status TensorReader::ReadRowsAsCols(int64_t first, int64_t size, int64_t stride, float* out) const {
  std::vector<float> strip(std::min(kRowsAtOnce, size) * cols_);
  for (int64_t row = 0; row < size; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, size - row);
    HEADLIGHT_RETURN_IF_ERROR(Convert((first + row) * cols_, rows * cols_, strip.data()));
    Transpose(strip.data(), rows, cols_, out + row, stride);
  }
  return absl::OkStatus();
}

absl::Status TensorReader::ReadRowsTransposed(int64_t first, int64_t size, std::vector<float>& out,
                                              int64_t period) const {
  const int64_t wanted = size == 0 ? rows_ : size;
  const int64_t times = period == 0 ? 1 : Times(rows_, first, wanted, period);
  Resize(cols_ * times * wanted, out);
  for (int64_t i = 0; i < times; ++i) {
    HEADLIGHT_RETURN_IF_ERROR(
        ReadRowsAsCols(first + i * period, wanted, times * wanted, out.data() + i * wanted));
  }
  return absl::OkStatus();
}

absl::StatusOr<EmbeddingTable> TensorReader::ReadTable() const {
  const int64_t elements = rows_ * cols_;
  if (is_f64_) {
    std::vector<float> values;
    HEADLIGHT_RETURN_IF_ERROR(ReadCols(0, 0, values));
    return EmbeddingTable::Copy(DType::kF32, values.data(), elements);
  }
  // Read once: what is not finite is looked for where it was copied to.
  std::vector<float> converted;
  return EmbeddingTable::Make(dtype_, elements, [&](int64_t first, int64_t count, std::byte* to) {
    std::memcpy(to, entry_.bytes.data() + first * SizeOf(dtype_), count * SizeOf(dtype_));
    const void* const copied = to;
    if (dtype_ == DType::kF32 && AllFinite(static_cast<const float*>(copied), count)) return absl::OkStatus();
    converted.resize(count);
    return Convert(first, count, converted.data());
  });
}

}  // namespace headlight
