// SPDX-License-Identifier: Apache-2.0
//
// What a kernel is to the rest of the core: a way to compute the whole layer.
#ifndef HEADLIGHT_CORE_ATTENTION_KERNEL_H_
#define HEADLIGHT_CORE_ATTENTION_KERNEL_H_

#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/attention/batch.h"
#include "core/attention/forward_shape.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"

namespace headlight {

// Scratch memory of one call at a time, of any layer: what it holds between calls is room and no more.
class Workspace {
 public:
  virtual ~Workspace() = default;

  // Calls visit(buffer) for each block of memory that it holds or may come to hold. One that is given back is
  // allocated again when it is needed. Not during a call.
  virtual void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) = 0;
  virtual int64_t list_bytes() const = 0;  // what it holds beside, a few bytes for each sequence
};

// A layer packed for one way of computing it. Immutable and thread-safe; Run needs a workspace per concurrent
// call.
class AttentionKernel {
 public:
  virtual ~AttentionKernel() = default;
  virtual int64_t packed_bytes() const = 0;  // memory of its packed matrices
  // As AttentionLayer has it. `others` are of the same type as this one.
  virtual int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads, const Workspace* kept,
                                 std::span<const AttentionKernel* const> others) const = 0;
  // `batch` is valid. Errors as AttentionLayer::Forward. May throw dnnl::error and std::bad_alloc.
  virtual absl::Status Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_KERNEL_H_
