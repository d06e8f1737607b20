// SPDX-License-Identifier: Apache-2.0
//
// From a batch's hidden states to the outputs that its requests ask for: pooled, through heads, and written
// as a reply carries them. What a request gets depends on its own sequences alone.
#ifndef HEADLIGHT_SERVER_BATCH_OUTPUT_WORK_H_
#define HEADLIGHT_SERVER_BATCH_OUTPUT_WORK_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/heads/model_heads.h"
#include "core/model/model.h"
#include "core/runtime/compute_arena.h"
#include "core/runtime/interruption.h"
#include "core/tensor/matrix_view.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_result.h"
#include "server/batch/copy_list.h"
#include "server/memory/buffer_pool.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// Asks whether anybody waits for a request's outputs still.
class WhileWanted final : public Interruption {
 public:
  WhileWanted(ComputeArena& arena, const CancellationToken& cancelled)
      : arena_(arena), cancelled_(cancelled) {}

  bool MayGoOn() const override {
    if (cancelled_.IsCancelled()) return false;
    arena_.Checkpoint();
    return true;
  }

 private:
  ComputeArena& arena_;
  const CancellationToken& cancelled_;
};

// A way to pool: attention.proto's PoolingMode and what follows it.
struct PoolingPlan {
  std::span<const Pooling> poolings;
  bool as_model = false;  // the vectors pass through the model's own steps
};

// Pools the sequences of `hidden` [tokens, embed_dim] into `out` [sequences, dim]: side by side, through the
// model's steps, cut to the columns of `out` and, where the model says so, divided by their L2 norms. False
// where the interruption said no.
bool PoolVectors(const Model& model, const PoolingPlan& plan, MatrixView hidden,
                 std::span<const int64_t> cu_lens, MutableMatrixView out, const Interruption& interruption);

// Numbers beside the results themselves that an output is made in, of one request.
struct OutputExtent {
  int64_t rows = 0;     // f32 that a table of ids is multiplied with
  int64_t weights = 0;  // f32 of kSparse: those of all ids, or of all tokens
  int64_t values = 0;   // of the result, at most
  int64_t entries = 0;  // of kSparse, at most
  double flops = 0;
};
OutputExtent ExtentOf(const BatchInput& input, const OutputRequest& request);

// Not thread-safe; Add, Run and Take in this order.
class OutputWork {
 public:
  // All must outlive it. `hidden` [tokens, embed_dim] is that of the whole batch, `token_ids` its ids.
  OutputWork(const Model& model, MatrixView hidden, std::span<const int32_t> token_ids, BufferPool& pool,
             Lease& memory)
      : model_(model), hidden_(hidden), token_ids_(token_ids), pool_(pool), memory_(memory) {}

  // An input of the batch, whose first token is row `first_row`. RESOURCE_EXHAUSTED: memory is short.
  absl::Status Add(const BatchInput& input, int64_t first_row);
  // Computes all outputs of all inputs that are not cancelled. Errors as Add.
  absl::Status Run(ComputeArena& arena);
  // Those of the input that was added as number `place`, in the order of its requests.
  std::vector<OutputResult> Take(size_t place) { return std::move(inputs_[place].results); }

 private:
  struct Input {
    const BatchInput* input;
    int64_t first_row;
    std::vector<int64_t> cu_lens;  // of its sequences, from 0
    std::vector<OutputResult> results;
  };
  // An output under way.
  struct Output {
    size_t input;                                  // in inputs_
    size_t place;                                  // in its requests
    std::shared_ptr<PooledBuffer> numbers;         // f32 [rows, width]; null for hidden states
    std::shared_ptr<PooledBuffer> rows;            // of kLanguageModel: what its table is multiplied with
    std::vector<std::vector<SparseEntry>> sparse;  // of each sequence
  };
  // Rows of an output, or panels of its vocabulary, that one thread works on.
  struct Piece {
    Output* output;
    int64_t begin;
    int64_t end;
  };

  const Input& InputOf(const Output& output) const { return inputs_[output.input]; }
  const OutputRequest& RequestOf(const Output& output) const {
    return InputOf(output).input->outputs[output.place];
  }
  MatrixView HiddenOf(const Input& input) const {
    return {hidden_.Row(input.first_row), input.input->q_tokens, hidden_.cols, hidden_.stride};
  }
  absl::Status Acquire(int64_t size_bytes, std::shared_ptr<PooledBuffer>& buffer);
  int64_t NumRows(const Output& output) const;
  void AddPieces(Output& output, int64_t count, int64_t at_once, std::vector<Piece>& pieces) const;
  template <typename Body>
  void ForEachPiece(ComputeArena& arena, const std::vector<Piece>& pieces, const Body& body) const;
  void ComputeRows(const Piece& piece, const Interruption& interruption) const;
  void ComputeTokenVectors(const Piece& piece, const Interruption& interruption) const;
  void ComputeScores(const Piece& piece, const Interruption& interruption) const;
  void ComputeVocab(const Piece& piece, const Interruption& interruption) const;
  void CollectSparse(const Piece& piece) const;
  absl::Status Finish(Output& output, NarrowingList& narrowing, std::vector<Output*>& encoded);
  absl::Status FinishSparse(Output& output, NarrowingList& narrowing);
  absl::Status FinishEncoded(Output& output, std::vector<Output*>& encoded);
  void Encode(const Output& output) const;
  absl::Status FinishNumbers(const float* from, int64_t count, const std::shared_ptr<PooledBuffer>& owner,
                             DType dtype, NarrowingList& narrowing, OutputResult& result);

  const Model& model_;
  const MatrixView hidden_;
  const std::span<const int32_t> token_ids_;
  BufferPool& pool_;
  Lease& memory_;
  std::vector<Input> inputs_;
  std::vector<std::unique_ptr<Output>> outputs_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_OUTPUT_WORK_H_
