// SPDX-License-Identifier: Apache-2.0
//
// The copies of a batch, in and out, done together by all threads of the arena. They convert on the way:
// numbers are f32 where the kernels read and write them, whatever type they travel in.
#ifndef HEADLIGHT_SERVER_BATCH_COPY_LIST_H_
#define HEADLIGHT_SERVER_BATCH_COPY_LIST_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "core/tensor/dtype.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// Bytes of an element where the kernels read it.
inline int64_t PackedSizeOf(DType dtype) { return dtype == DType::kBool ? 1 : SizeOf(DType::kF32); }

// Not thread-safe; neither is the other list.
class CopyList {
 public:
  // Plans to copy `count` elements of `from`, beginning with element `first`, to `to`, as f32 if they are
  // numbers. `from` and the memory at `to` must live until Run returns.
  void Add(const ByteSegments& from, DType dtype, int64_t first, int64_t count, std::byte* to);

  void Run(ComputeArena& arena) const;

  int64_t bytes() const { return bytes_; }  // that it writes

 private:
  struct Copy {
    const ByteSegments* from;
    DType dtype;
    int64_t first;
    int64_t count;
    std::byte* to;
  };
  std::vector<Copy> copies_;
  std::vector<size_t> pieces_;  // first copy of each piece
  int64_t piece_elements_ = 0;  // of the last piece, so far
  int64_t bytes_ = 0;
};

// Results on their way to memory of their own: narrowed, or copied as they are.
class NarrowingList {
 public:
  // Plans to write `count` numbers as `dtype`, which is kF32, kF16 or kBf16. Both memories must live until
  // Run returns.
  void Add(const float* from, int64_t count, DType dtype, std::byte* to);

  void Run(ComputeArena& arena) const;

  int64_t bytes() const { return bytes_; }  // that it writes

 private:
  struct Piece {
    const float* from;
    int64_t count;
    DType dtype;
    std::byte* to;
  };
  std::vector<Piece> pieces_;
  int64_t bytes_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_COPY_LIST_H_
