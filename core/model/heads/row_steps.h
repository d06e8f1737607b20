// SPDX-License-Identifier: Apache-2.0
//
// Steps over rows on packed panels, in f32 whatever the model's precision. A row's bits depend on that row
// alone.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_ROW_STEPS_H_
#define HEADLIGHT_CORE_MODEL_HEADS_ROW_STEPS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/model/heads/head_config.h"
#include "core/model/heads/head_parameters.h"
#include "core/product/gemm.h"
#include "core/product/parameter_panels.h"
#include "core/runtime/interruption.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Rows that a call of Run takes at once; callers divide their rows so.
inline constexpr int64_t kStepRows = 64;

// Of one number, in double precision and rounded once.
float Activated(RowActivation activation, float x);

// Each row divided by its L2 norm; zeros stay.
void NormalizeRows(MutableMatrixView rows);

// Immutable and thread-safe. The constructor and Run may throw dnnl::error and std::bad_alloc.
class PackedRowSteps {
 public:
  // `parameters` fit `steps`, whose products `provider` makes.
  PackedRowSteps(std::span<const RowStep> steps, int64_t in_dim, std::vector<RowStepParameters> parameters,
                 const GemmProvider& provider);

  int64_t in_dim() const { return in_dim_; }
  int64_t out_dim() const { return out_dim_; }
  bool empty() const { return steps_.empty(); }
  int64_t packed_bytes() const;

  // Bytes that a call works in.
  int64_t ScratchBytes() const;

  // out [rows, out_dim], its rows adjacent, from in [rows, in_dim]; `out` aliases nothing. False where the
  // interruption, asked between products, said no.
  bool Run(MatrixView in, MutableMatrixView out, const Interruption& interruption) const;

 private:
  struct Step {
    RowStep config;
    RowStepParameters parameters;  // of kDense the bias alone
    std::optional<PanelMatrix> weight;
    std::optional<PanelGemm> gemm;
  };
  bool RunRows(MatrixView in, MutableMatrixView out, float* memory, const Interruption& interruption) const;
  bool RunStep(const Step& step, MatrixView in, MutableMatrixView out, std::byte* scratch,
               const Interruption& interruption) const;

  const GemmProvider& provider_;
  const int64_t in_dim_;
  int64_t out_dim_;
  int64_t largest_dim_;
  int64_t gemm_scratch_bytes_ = 0;
  std::optional<PanelStorage> storage_;
  std::vector<Step> steps_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_ROW_STEPS_H_
