// SPDX-License-Identifier: Apache-2.0
#include "server/batch/copy_list.h"

#include <algorithm>
#include <cstring>

#include "core/tensor/convert.h"

namespace headlight {
namespace {

// Elements that one thread copies or converts before it takes the next piece: long enough to hide the
// hand-over, short enough to spread a batch over all threads.
constexpr int64_t kPieceElements = int64_t{1} << 18;

// What a narrow tensor passes through on its way to f32: small enough for the first cache. Elements that the
// network has cut in two are whole in it.
constexpr int64_t kStagingBytes = int64_t{8} << 10;

// Copies elements of a payload, as f32 if they are numbers.
void Unpack(const ByteSegments& from, DType dtype, int64_t first, int64_t count, std::byte* to) {
  const int64_t size = SizeOf(dtype);
  if (size == PackedSizeOf(dtype)) return from.CopyTo(first * size, count * size, to);
  alignas(64) std::byte staging[kStagingBytes];
  float* out = static_cast<float*>(static_cast<void*>(to));
  while (count > 0) {
    const int64_t take = std::min(count, kStagingBytes / size);
    from.CopyTo(first * size, take * size, staging);
    ConvertToF32(dtype, staging, take, out);
    first += take;
    count -= take;
    out += take;
  }
}

}  // namespace

void CopyList::Add(const ByteSegments& from, DType dtype, int64_t first, int64_t count, std::byte* to) {
  bytes_ += count * PackedSizeOf(dtype);
  while (count > 0) {
    if (piece_elements_ == 0) pieces_.push_back(copies_.size());
    const int64_t take = std::min(count, kPieceElements - piece_elements_);
    copies_.push_back({&from, dtype, first, take, to});
    piece_elements_ = (piece_elements_ + take) % kPieceElements;
    first += take;
    to += take * PackedSizeOf(dtype);
    count -= take;
  }
}

void CopyList::Run(ComputeArena& arena) const {
  arena.ForEach(static_cast<int64_t>(pieces_.size()), [this](int64_t piece, int) {
    const bool last = piece + 1 == static_cast<int64_t>(pieces_.size());
    const size_t end = last ? copies_.size() : pieces_[piece + 1];
    for (size_t i = pieces_[piece]; i < end; ++i) {
      const Copy& copy = copies_[i];
      Unpack(*copy.from, copy.dtype, copy.first, copy.count, copy.to);
    }
  });
}

void NarrowingList::Add(const float* from, int64_t count, DType dtype, std::byte* to) {
  bytes_ += count * SizeOf(dtype);
  for (int64_t first = 0; first < count; first += kPieceElements) {
    pieces_.push_back(
        {from + first, std::min(count - first, kPieceElements), dtype, to + first * SizeOf(dtype)});
  }
}

void NarrowingList::Run(ComputeArena& arena) const {
  if (pieces_.empty()) return;
  arena.ForEach(static_cast<int64_t>(pieces_.size()), [this](int64_t i, int) {
    const Piece& piece = pieces_[i];
    if (piece.dtype == DType::kF32) {
      std::memcpy(piece.to, piece.from, piece.count * sizeof(float));
    } else {
      ConvertFromF32(piece.from, piece.count, piece.dtype, piece.to);
    }
  });
}

}  // namespace headlight
