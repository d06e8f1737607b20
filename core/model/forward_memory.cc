// SPDX-License-Identifier: Apache-2.0
//
// How much memory a call of Forward takes, before it and after it: ForwardBytes of Model, and the workspace's
// own.
#include <algorithm>
#include <vector>

#include "core/model/model_impl.h"

namespace headlight {

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

void ForwardWorkspace::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  attention->ForEachBuffer(visit);
  for (Buffer* buffer : {&hidden, &normed, &attended}) visit(*buffer);
  for (FeedForwardRows& memory : rows) memory.ForEachBuffer(visit);
  for (FeedForwardScratch& memory : scratch) memory.ForEachBuffer(visit);
}

int64_t Model::Impl::ForwardBytes(const ForwardShape& shape, int num_threads) const {
  const bool stacked = !IsBare() || config_.num_layers > 1;
  const int64_t rows_bytes = Buffer::ReservedBytes(shape.tokens * width() * int64_t{sizeof(float)});
  const int64_t matrices = (embedding_ || stacked ? 1 : 0) + (stacked ? 1 : 0) + (IsPre() ? 1 : 0);
  int64_t bytes = matrices * rows_bytes + layers_[0].attention.WorkspaceBytes(shape, num_threads) +
                  shape.num_sequences * int64_t{sizeof(SequenceOptions)};
  if (embedding_) bytes += shape.tokens * int64_t{sizeof(int32_t)};
  if (feed_forward_) {
    bytes += num_threads * feed_forward_->WorkBytes(PlanRows(shape.tokens, num_threads).chunk_rows);
  }
  return bytes;
}

int64_t Model::ForwardBytes(const ForwardShape& shape, int num_threads) const {
  return impl_->ForwardBytes(shape, num_threads);
}

}  // namespace headlight
