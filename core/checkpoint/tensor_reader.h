// SPDX-License-Identifier: Apache-2.0
//
// From a tensor where its file is mapped to the numbers of a model, in one pass: converted, checked to be
// finite, and laid out.
#ifndef HEADLIGHT_CORE_CHECKPOINT_TENSOR_READER_H_
#define HEADLIGHT_CORE_CHECKPOINT_TENSOR_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/safetensors.h"
#include "core/model/embedding_table.h"
#include "core/tensor/dtype.h"

namespace headlight {

// A tensor of F32, F16, BF16 or F64 (rounded to nearest, beyond f32 to infinity) seen as a matrix [rows,
// cols], cols being its last dimension. All reads: INVALID_ARGUMENT naming the tensor and the place of the
// first number that is NaN or infinite, for one of them makes all outputs NaN, or worse, in int8, numbers
// like any others. They throw std::bad_alloc; vectors that are large enough keep their memory.
class TensorReader {
 public:
  // Both outlive the reader.
  TensorReader(const std::string& name, const SafetensorsEntry& entry);

  // Columns [first, first + size), or all if size is 0, as [rows, size]; with a period, which is at least
  // size, those that come a multiple of it later too, side by side.
  absl::Status ReadCols(int64_t first, int64_t size, std::vector<float>& out, int64_t period = 0) const;

  // Rows [first, first + size), or all if size is 0, as [cols, size]; likewise with a period.
  absl::Status ReadRowsTransposed(int64_t first, int64_t size, std::vector<float>& out,
                                  int64_t period = 0) const;

  // The whole matrix in its own dtype, F64 as f32. RESOURCE_EXHAUSTED: memory is short.
  absl::StatusOr<EmbeddingTable> ReadTable() const;
  DType table_dtype() const { return is_f64_ ? DType::kF32 : dtype_; }

 private:
  // Elements [first, first + count) as f32 in `out`, checked.
  absl::Status Convert(int64_t first, int64_t count, float* out) const;

  // Rows [first, first + size) as the first `size` columns of out [cols, stride].
  absl::Status ReadRowsAsCols(int64_t first, int64_t size, int64_t stride, float* out) const;

  const std::string& name_;
  const SafetensorsEntry& entry_;
  bool is_f64_ = false;
  DType dtype_ = DType::kF32;  // unless it is F64
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_TENSOR_READER_H_
