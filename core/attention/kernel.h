// SPDX-License-Identifier: Apache-2.0
//
// What a kernel is to the rest of the core: a way to compute the whole layer, chosen once when a model is
// loaded.
#ifndef HEADLIGHT_CORE_ATTENTION_KERNEL_H_
#define HEADLIGHT_CORE_ATTENTION_KERNEL_H_

#include <memory>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/attention/batch.h"
#include "core/attention/config.h"
#include "core/attention/forward_shape.h"
#include "core/attention/parameters.h"
#include "core/product/gemm.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"

namespace headlight {

// Scratch memory of one call at a time. Made by a kernel, understood by that kernel only.
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
  virtual std::string name() const = 0;
  virtual Precision precision() const = 0;
  virtual const GemmProvider& gemm_provider() const = 0;  // of its matrix products
  virtual int64_t packed_bytes() const = 0;               // memory of its packed matrices
  virtual std::unique_ptr<Workspace> NewWorkspace(const ComputeArena& arena) const = 0;
  // An upper bound of what a new workspace for so many threads holds after a batch of this shape.
  virtual int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads) const = 0;
  // `batch` is valid. Errors as AttentionLayer::Forward. May throw dnnl::error and std::bad_alloc.
  virtual absl::Status Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const = 0;
};

// One row of the kernel table.
struct KernelEntry {
  const char* name;
  const char* description;
  // OK, or UNIMPLEMENTED with a sentence that says why this build, CPU or layer cannot use the kernel.
  absl::Status (*Accepts)(const AttentionConfig& config);
  // OK, or UNIMPLEMENTED with a sentence why the kernel could compute the layer but another one is faster on
  // this CPU. Asked after Accepts said OK, and only where nobody has named the kernel.
  absl::Status (*Pays)(const AttentionConfig& config);
  // Packs the weights. Called only after Accepts said OK. May throw dnnl::error and std::bad_alloc.
  std::unique_ptr<const AttentionKernel> (*Create)(const AttentionConfig& config,
                                                   const AttentionParameters& weights);
};

// All kernels, fastest first.
std::span<const KernelEntry> KernelTable();

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_KERNEL_H_
