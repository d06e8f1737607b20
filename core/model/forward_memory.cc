// SPDX-License-Identifier: Apache-2.0
//
// How much memory a call of Forward takes, before it and after it: ForwardBytes of Model, and the workspace's
// own.
#include <algorithm>
#include <vector>

#include "core/model/model_impl.h"

namespace headlight {
namespace {

// What a list that is replaced when it is too small takes more for `count` elements.
template <typename T>
int64_t ListGrowth(const std::vector<T>& held, int64_t count) {
  const auto capacity = static_cast<int64_t>(held.capacity());
  return std::max(count - capacity, int64_t{0}) * int64_t{sizeof(T)};
}

}  // namespace

int64_t ForwardWorkspace::held_bytes() const {
  int64_t bytes = attention->list_bytes() + static_cast<int64_t>(positions.capacity() * sizeof(int32_t)) +
                  static_cast<int64_t>(sequences.capacity() * sizeof(SequenceOptions));
  // Looks only, though it could do more.
  const_cast<ForwardWorkspace*>(this)->ForEachBuffer([&](Buffer& buffer) { bytes += buffer.size_bytes(); });
  return bytes;
}

void ForwardWorkspace::Trim(int64_t max_bytes) {
  int64_t held = held_bytes();
  if (held <= max_bytes) return;
  std::vector<Buffer*> buffers;
  ForEachBuffer([&](Buffer& buffer) { buffers.push_back(&buffer); });
  std::sort(buffers.begin(), buffers.end(),
            [](const Buffer* a, const Buffer* b) { return a->size_bytes() > b->size_bytes(); });
  for (Buffer* buffer : buffers) {
    if (held <= max_bytes) return;
    held -= buffer->size_bytes();
    *buffer = Buffer();
  }
}

void ForwardWorkspace::TrimUnused() {
  ForEachBuffer([](Buffer& buffer) { buffer.GiveBackUnused(); });
}

void ForwardWorkspace::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  attention->ForEachBuffer(visit);
  for (Buffer* buffer : {&hidden, &normed, &attended}) visit(*buffer);
  for (FeedForwardRows& memory : rows) memory.ForEachBuffer(visit);
  for (FeedForwardScratch& memory : scratch) memory.ForEachBuffer(visit);
}

int64_t Model::Impl::ForwardBytes(const ForwardShape& shape, int num_threads,
                                  const ForwardWorkspace* kept) const {
  static const ForwardWorkspace& nothing = *new ForwardWorkspace;
  const ForwardWorkspace& held = kept == nullptr ? nothing : *kept;
  const bool stacked = !IsBare() || config_.num_layers > 1;
  const int64_t rows_bytes = shape.tokens * width() * int64_t{sizeof(float)};
  int64_t bytes =
      layers_[0].attention.WorkspaceBytes(shape, num_threads, held.attention.get(), other_kernels_);
  if (embedding_ || stacked) bytes += held.hidden.GrowthFor(rows_bytes);
  if (stacked) bytes += held.attended.GrowthFor(rows_bytes);
  if (HasNormedInput()) bytes += held.normed.GrowthFor(rows_bytes);
  bytes += ListGrowth(held.sequences, shape.num_sequences);
  if (embedding_) bytes += ListGrowth(held.positions, shape.tokens);
  if (networks_.empty()) return bytes;
  const int64_t rows = PlanRows(shape.tokens, num_threads).chunk_rows;
  if (kept == nullptr) return bytes + num_threads * FeedForward::GrowthFor(networks_, rows, {}, {});
  for (size_t i = 0; i < kept->rows.size(); ++i) {
    bytes += FeedForward::GrowthFor(networks_, rows, kept->rows[i], kept->scratch[i]);
  }
  return bytes;
}

int64_t Model::ForwardBytes(const ForwardShape& shape, int num_threads) const {
  return impl_->ForwardBytes(shape, num_threads, nullptr);
}

int64_t Model::ForwardGrowth(const ForwardShape& shape, const ModelWorkspace& kept) const {
  const auto& held = static_cast<const ForwardWorkspace&>(kept);
  return impl_->ForwardBytes(shape, static_cast<int>(held.rows.size()), &held);
}

}  // namespace headlight
