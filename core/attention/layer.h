// SPDX-License-Identifier: Apache-2.0
//
// The public face of the core: a multi-head attention layer with its parameters packed for one kernel.
//
//   y = concat over heads(softmax(scale * q k^T + mask) v) Wo + bo
//   q = Xq Wq + bq,  k = Xk Wk + bk,  v = Xv Wv + bv
//
// (Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2; reference.h states every detail)
#ifndef HEADLIGHT_CORE_ATTENTION_LAYER_H_
#define HEADLIGHT_CORE_ATTENTION_LAYER_H_

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/attention/batch.h"
#include "core/attention/config.h"
#include "core/attention/kernel.h"
#include "core/attention/parameters.h"
#include "core/product/arithmetic.h"
#include "core/runtime/compute_arena.h"

namespace headlight {

// Immutable after Create. Forward may be called from many threads at once if each call has a Workspace of its
// own.
class AttentionLayer {
 public:
  // Packs `parameters` for the fastest arithmetic that this CPU has in the precision that config asks for, or
  // for the kernel named `kernel_name`; in f32 where there is none. INVALID_ARGUMENT: config or parameters are
  // wrong. Else errors as ChooseArithmetic.
  static absl::StatusOr<AttentionLayer> Create(const AttentionConfig& config,
                                               const AttentionParameters& parameters,
                                               const std::string& kernel_name = "");
  // The same in an arithmetic that was chosen before.
  static absl::StatusOr<AttentionLayer> Create(const AttentionConfig& config,
                                               const AttentionParameters& parameters,
                                               const Arithmetic& arithmetic);

  const AttentionConfig& config() const { return config_; }  // resolved
  std::string kernel_name() const { return arithmetic_.kind->name; }
  // The arithmetic that the layer runs in: config().precision, or f32 where this CPU would be slower or
  // unable to do so; then precision_note() says why in a sentence, else it is empty.
  Precision precision() const { return arithmetic_.precision; }
  const std::string& precision_note() const { return arithmetic_.note; }
  // What its parameters are held in: precision() or a narrower one.
  Precision parameters_precision() const { return arithmetic_.parameters; }
  // The instruction set that layers run on in this process, such as "AVX3_SPR" (AVX-512) or "AVX2".
  static std::string IsaName();
  int64_t num_parameters() const { return num_parameters_; }
  int64_t packed_bytes() const { return kernel_->packed_bytes(); }  // memory of its packed matrices

  // Memory that Forward needs beside its inputs and outputs, of any layer; keep it between calls: it grows to
  // the largest batch.
  static std::unique_ptr<Workspace> NewWorkspace(const ComputeArena& arena);

  // An upper bound of what a workspace takes for a batch of this shape on so many threads: more than `kept`
  // holds, or if that is null all that a new one holds then.
  int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads, const Workspace* kept = nullptr) const {
    return kernel_->WorkspaceBytes(shape, num_threads, kept, {});
  }
  // The same where the batch passes through `others` too, which are of the same arithmetic and whose inputs
  // and outputs are as wide.
  int64_t WorkspaceBytes(const ForwardShape& shape, int num_threads, const Workspace* kept,
                         std::span<const AttentionKernel* const> others) const {
    return kernel_->WorkspaceBytes(shape, num_threads, kept, others);
  }
  const AttentionKernel& kernel() const { return *kernel_; }

  // Computes batch.output, and the weights that its sequences ask for, on the threads of `arena`. Blocks
  // until done. The bits of a sequence's results depend on that sequence alone: not on its neighbours, their
  // number, order or cancellation, nor on the number of threads. `workspace` must come from NewWorkspace of
  // this arena. INVALID_ARGUMENT: the batch contradicts itself or the config. UNIMPLEMENTED: a
  // semantic this kernel lacks. RESOURCE_EXHAUSTED: no memory for the workspace. INTERNAL: oneDNN failed.
  absl::Status Forward(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const;

 private:
  AttentionLayer(AttentionConfig config, int64_t num_parameters, Arithmetic arithmetic,
                 std::unique_ptr<const AttentionKernel> kernel);

  AttentionConfig config_;
  int64_t num_parameters_;
  Arithmetic arithmetic_;
  std::unique_ptr<const AttentionKernel> kernel_;
};

// For people: "f32", or "f32, parameters bf16" where these are narrower.
std::string PrecisionText(const AttentionLayer& layer);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_LAYER_H_
