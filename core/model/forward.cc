// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/attention/sink.h"
#include "core/base/status_macros.h"
#include "core/model/model_impl.h"

namespace headlight {
namespace {

constexpr int64_t kMaxChunkRows = 256;
// Fewer rows than this make the products slower than idle threads do.
constexpr int64_t kMinChunkRows = 32;
constexpr int64_t kItemsPerThread = 2;
// Elements of the rows that are normed between two looks at whether to go on: some 50 us.
constexpr int64_t kStepElements = int64_t{1} << 16;

}  // namespace

// Rows are divided as threads want it: no bit depends on it.
RowPlan Model::Impl::PlanRows(int64_t tokens, int threads) const {
  RowPlan plan{.num_rows = tokens, .chunk_rows = kMaxChunkRows};
  for (const FeedForward& network : networks_) {
    plan.chunk_rows = std::min(plan.chunk_rows, network.rows_at_once());
  }
  while (threads > 1 && plan.chunk_rows > kMinChunkRows && plan.num_chunks() < kItemsPerThread * threads) {
    plan.chunk_rows /= 2;
  }
  plan.split_columns = plan.num_chunks() < threads;
  return plan;
}

absl::Status Model::Impl::Validate(const ModelBatch& batch, const AttentionBatch& step,
                                   ForwardWorkspace& ws) const {
  const int64_t tokens = std::ssize(batch.token_ids);
  const AttentionBatch& given = batch.attention;
  if (embedding_ && !(given.query.empty() && given.key.empty() && given.value.empty())) {
    return absl::InvalidArgumentError("query: got a matrix, wanted token ids: the model begins at them");
  }
  if (!embedding_ && (tokens != 0 || !batch.token_types.empty())) {
    return absl::InvalidArgumentError("token_ids: got some, wanted a query: the model has no embedding");
  }
  if (embedding_ && tokens == 0) {
    return absl::InvalidArgumentError("token_ids: got none, wanted at least 1");
  }
  const bool uniform = config_.other_blocks.empty();
  if (uniform) HEADLIGHT_RETURN_IF_ERROR(step.Validate(config_.block.attention));
  const bool stacked = embedding_ || !IsBare() || config_.num_layers > 1;
  if (stacked && (step.key != step.query || step.value != step.query ||
                  !std::equal(step.cu_q_lens.begin(), step.cu_q_lens.end(), step.cu_kv_lens.begin()))) {
    return absl::InvalidArgumentError(
        "key: got other rows than those of query, wanted the same: the model attends to its own tokens");
  }
  HEADLIGHT_RETURN_IF_ERROR(ValidateWeightsLayers(batch.weights_layers, step.num_sequences()));
  if (!uniform) HEADLIGHT_RETURN_IF_ERROR(ValidateSequences(batch, step, ws));
  return embedding_ ? embedding_->Validate(batch.token_ids, batch.token_types, step.cu_q_lens)
                    : absl::OkStatus();
}

absl::Status Model::Impl::ValidateWeightsLayers(std::span<const WeightsLayers> asked,
                                                int64_t num_sequences) const {
  const int64_t count = std::ssize(asked);
  if (count != 0 && count != num_sequences) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights_layers: got ", count, ", wanted ", num_sequences, ", one for each sequence"));
  }
  for (int64_t i = 0; i < count; ++i) {
    const std::span<const int64_t> layers = asked[i].layers;
    for (size_t j = 0; j < layers.size(); ++j) {
      const bool again = std::find(layers.begin(), layers.begin() + j, layers[j]) != layers.begin() + j;
      if (layers[j] >= 0 && layers[j] < config_.num_layers && !again) continue;
      return absl::InvalidArgumentError(absl::StrCat("weights_layers[", i, "]: got ", layers[j],
                                                     again ? " again" : "", ", wanted 0..",
                                                     config_.num_layers - 1, ", each once"));
    }
  }
  return absl::OkStatus();
}

std::span<const int64_t> Model::Impl::LayersOfWeights(const ModelBatch& batch, int64_t sequence) const {
  return batch.weights_layers.empty() ? std::span(&last_layer_, 1) : batch.weights_layers[sequence].layers;
}

// Where layers differ: what is the same for all, and the weights against the layer that they are of.
absl::Status Model::Impl::ValidateSequences(const ModelBatch& batch, const AttentionBatch& step,
                                            ForwardWorkspace& ws) const {
  const std::span<const SequenceOptions> asked = step.sequences;
  ws.sequences.assign(asked.begin(), asked.end());
  for (SequenceOptions& sequence : ws.sequences) sequence.weights = {};
  AttentionBatch without_weights = step;
  without_weights.sequences = ws.sequences;
  HEADLIGHT_RETURN_IF_ERROR(without_weights.Validate(config_.block.attention));
  const bool heads_agree = config_.LayersAgreeOnHeads();
  for (int64_t i = 0; i < std::ssize(asked); ++i) {
    if (!heads_agree && !asked[i].mask.empty() && asked[i].mask.head_stride != 0) {
      return absl::InvalidArgumentError(absl::StrCat("sequences[", i, "].mask: got a head_stride of ",
                                                     asked[i].mask.head_stride,
                                                     ", wanted 0: the layers differ in num_heads"));
    }
    for (const int64_t layer : LayersOfWeights(batch, i)) {
      const absl::Status status =
          CheckSink(asked[i].weights, config_.LayerBlock(layer).attention, step.q_len(i), step.kv_len(i));
      if (status.ok()) continue;
      return absl::InvalidArgumentError(absl::StrCat("sequences[", i, "]", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

absl::Status Model::Impl::Reserve(int64_t tokens, const RowPlan& plan, ForwardWorkspace& ws) const {
  const int64_t bytes = tokens * width() * int64_t{sizeof(float)};
  const bool stacked = !IsBare() || config_.num_layers > 1;
  bool ok = !(embedding_ || stacked) || ws.hidden.Reserve(bytes);
  ok = ok && (!stacked || ws.attended.Reserve(bytes)) && (!HasNormedInput() || ws.normed.Reserve(bytes));
  for (const FeedForward& network : networks_) {
    for (size_t i = 0; i < ws.rows.size(); ++i) {
      ok = ok && network.Reserve(plan.chunk_rows, ws.rows[i]) &&
           network.Reserve(plan.chunk_rows, ws.scratch[i]);
    }
  }
  if (ok) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("no memory for a batch of ", tokens, " tokens"));
}

absl::Status Model::Impl::Forward(const ModelBatch& batch, ComputeArena& arena, ForwardWorkspace& ws) const {
  Pass pass{batch, arena, ws, {}, batch.attention, batch.attention.query};
  const int64_t tokens = embedding_ ? std::ssize(batch.token_ids) : batch.attention.query.rows;
  pass.plan = PlanRows(tokens, arena.num_threads());
  if (!embedding_) HEADLIGHT_RETURN_IF_ERROR(Validate(batch, pass.step, ws));
  HEADLIGHT_RETURN_IF_ERROR(Reserve(tokens, pass.plan, ws));
  if (embedding_) {  // whose checks want to see the matrix that attention reads
    pass.x = {ws.hidden.floats(), tokens, width(), width()};
    pass.step.query = pass.step.key = pass.step.value = pass.x;
    HEADLIGHT_RETURN_IF_ERROR(Validate(batch, pass.step, ws));
  }
  Begin(pass);
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const bool last = layer + 1 == config_.num_layers;
    if (!AnyoneWaits(batch.attention.sequences)) return absl::OkStatus();
    SetSequences(pass, layer);
    if (ReadsNormed(layer)) {
      pass.step.query = Const(RowsOf(ws.normed, 0, tokens));
    } else {
      pass.step.query = pass.x;
    }
    if (embedding_ || !IsBare() || config_.num_layers > 1) pass.step.key = pass.step.value = pass.step.query;
    pass.step.output = RowsOf(IsBare() && layer % 2 == 1 ? ws.hidden : ws.attended, 0, tokens);
    if (IsBare() && last) pass.step.output = batch.attention.output;
    HEADLIGHT_RETURN_IF_ERROR(LayerOf(layer).attention.Forward(pass.step, arena, *ws.attention));
    if (!IsBare()) FinishLayer(pass, layer);
    pass.x = Const(IsBare() ? pass.step.output : RowsOf(ws.hidden, 0, tokens));
  }
  if (IsBare() && config_.final_norm) NormOutput(pass);
  return absl::OkStatus();
}

template <typename Body>
bool Model::Impl::InSteps(int64_t rows, const Interruption& interruption, const Body& body) const {
  const int64_t step_rows = std::max(kStepElements / width(), int64_t{1});
  for (int64_t row = 0; row < rows; row += step_rows) {
    if (!interruption.MayGoOn()) return false;
    body(row, std::min(step_rows, rows - row));
  }
  return true;
}

// Looks the embeddings up, and norms what the first attention reads.
void Model::Impl::Begin(Pass& pass) const {
  if (!embedding_ && !ReadsNormed(0)) return;
  const ModelBatch& batch = pass.batch;
  if (embedding_) embedding_->FindPositions(batch.token_ids, pass.step.cu_q_lens, pass.ws.positions);
  pass.arena.ForEach(pass.plan.num_chunks(), [&](int64_t chunk, int) {
    const int64_t chunk_row = pass.plan.FirstRow(chunk);
    const int64_t chunk_rows = pass.plan.Rows(chunk);
    InSteps(chunk_rows, pass.InterruptionOf(chunk_row, chunk_rows), [&](int64_t row, int64_t rows) {
      const int64_t first_row = chunk_row + row;
      if (embedding_) {
        embedding_->Lookup(batch.token_ids, batch.token_types, pass.ws.positions, first_row,
                           RowsOf(pass.ws.hidden, first_row, rows));
      }
      if (!ReadsNormed(0)) return;
      const Residual x{.x = {pass.x.Row(first_row), rows, pass.x.cols, pass.x.stride}, .f = {}};
      AddAndNorm(AttentionNorm(0), x, {}, RowsOf(pass.ws.normed, first_row, rows));
    });
  });
}

// What the sequences ask of one layer: the model's own mask beside theirs, weights where they are wanted.
void Model::Impl::SetSequences(Pass& pass, int64_t layer) const {
  const std::span<const SequenceOptions> asked = pass.batch.attention.sequences;
  std::vector<SequenceOptions>& sequences = pass.ws.sequences;
  sequences.assign(asked.begin(), asked.end());
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].visibility.causal |= config_.causal;
    WeightsSink& sink = sequences[i].weights;
    const std::span<const int64_t> layers = LayersOfWeights(pass.batch, static_cast<int64_t>(i));
    const int64_t place = std::find(layers.begin(), layers.end(), layer) - layers.begin();
    if (place == std::ssize(layers)) sink = {};
    if (sink.mode == WeightsSink::Mode::kNone || place == 0) continue;
    const WeightsLayers& strides = pass.batch.weights_layers[i];
    sink.data += place * strides.data_stride;
    if (sink.keys != nullptr) sink.keys += place * strides.data_stride;
    if (sink.received_mass != nullptr) sink.received_mass += place * strides.received_stride;
  }
  pass.step.sequences = sequences;
}

// From attention's output to the next one's input.
void Model::Impl::FinishLayer(Pass& pass, int64_t layer) const {
  if (networks_.size() > 1) {  // there is room for each: what the last one left there is made this one's
    for (FeedForwardRows& memory : pass.ws.rows) NetworkOf(layer).Reserve(pass.plan.chunk_rows, memory);
  }
  if (pass.plan.split_columns) {
    for (int64_t chunk = 0; chunk < pass.plan.num_chunks(); ++chunk) {
      FinishChunkByColumns(pass, layer, pass.plan.FirstRow(chunk), pass.plan.Rows(chunk));
    }
    return;
  }
  pass.arena.ForEach(pass.plan.num_chunks(), [&](int64_t chunk, int worker) {
    FinishChunk(pass, layer, pass.plan.FirstRow(chunk), pass.plan.Rows(chunk), worker);
  });
}

void Model::Impl::FinishChunk(const Pass& pass, int64_t layer, int64_t first_row, int64_t rows,
                              int worker) const {
  const FeedForward& network = NetworkOf(layer);
  const PackedFeedForward& packed = *LayerOf(layer).feed_forward;
  FeedForwardRows& memory = pass.ws.rows[worker];
  FeedForwardScratch& scratch = pass.ws.scratch[worker];
  const BatchInterruption interruption = pass.InterruptionOf(first_row, rows);
  network.BeginWork();
  if (!InSteps(rows, interruption, [&](int64_t row, int64_t step_rows) {
        BeforeFeedForward(pass, layer, first_row + row, step_rows, RowsOf(memory.input, row, step_rows));
      })) {
    return;
  }
  network.Prepare(memory, rows);
  if (!network.Up(packed, memory, rows, 0, packed.up.num_panels(), scratch, interruption)) return;
  network.PrepareHidden(memory, rows);
  if (!network.Down(packed, memory, rows, 0, packed.down.num_panels(), scratch, interruption)) return;
  InSteps(rows, interruption, [&](int64_t row, int64_t step_rows) {
    AfterFeedForward(pass, layer, first_row + row, RowsOf(memory.input, row, step_rows),
                     RowsOf(memory.output, row, step_rows));
  });
}

void Model::Impl::FinishChunkByColumns(const Pass& pass, int64_t layer, int64_t first_row,
                                       int64_t rows) const {
  const FeedForward& network = NetworkOf(layer);
  const PackedFeedForward& packed = *LayerOf(layer).feed_forward;
  FeedForwardRows& memory = pass.ws.rows[0];
  const BatchInterruption interruption = pass.InterruptionOf(first_row, rows);
  const auto for_panels = [&](int64_t panels, const auto& step) {
    const int64_t splits = std::min<int64_t>(panels, kItemsPerThread * pass.arena.num_threads());
    pass.arena.ForEach(splits, [&](int64_t split, int worker) {
      network.BeginWork();
      step(split * panels / splits, (split + 1) * panels / splits, pass.ws.scratch[worker]);
    });
  };
  // What is left unfinished by one step is left alone by the next: nobody waits for it any more.
  pass.arena.ForEach(1, [&](int64_t, int) {
    const bool done = InSteps(rows, interruption, [&](int64_t row, int64_t step_rows) {
      BeforeFeedForward(pass, layer, first_row + row, step_rows, RowsOf(memory.input, row, step_rows));
    });
    if (done) network.Prepare(memory, rows);
  });
  for_panels(packed.up.num_panels(), [&](int64_t first, int64_t end, FeedForwardScratch& scratch) {
    network.Up(packed, memory, rows, first, end, scratch, interruption);
  });
  pass.arena.ForEach(1, [&](int64_t, int) {
    if (interruption.MayGoOn()) network.PrepareHidden(memory, rows);
  });
  for_panels(packed.down.num_panels(), [&](int64_t first, int64_t end, FeedForwardScratch& scratch) {
    network.Down(packed, memory, rows, first, end, scratch, interruption);
  });
  pass.arena.ForEach(1, [&](int64_t, int) {
    InSteps(rows, interruption, [&](int64_t row, int64_t step_rows) {
      AfterFeedForward(pass, layer, first_row + row, RowsOf(memory.input, row, step_rows),
                       RowsOf(memory.output, row, step_rows));
    });
  });
}

void Model::Impl::BeforeFeedForward(const Pass& pass, int64_t layer, int64_t first_row, int64_t rows,
                                    MutableMatrixView input) const {
  const MutableMatrixView attended = RowsOf(pass.ws.attended, first_row, rows);
  const MutableMatrixView hidden = RowsOf(pass.ws.hidden, first_row, rows);
  const MatrixView x = {pass.x.Row(first_row), rows, pass.x.cols, pass.x.stride};
  const Residual residual{.x = x, .f = Const(attended)};
  switch (placement()) {
    case NormPlacement::kNone:
      return;
    case NormPlacement::kPost:
      return AddAndNorm(AttentionNorm(layer), residual, {}, input);
    case NormPlacement::kPre:
      return AddAndNorm(FeedForwardNorm(layer), residual, hidden, input);
    case NormPlacement::kSandwich:
      AddAndNorm(AttentionOutputNorm(layer), {.x = Const(attended), .f = {}}, {}, attended);
      return AddAndNorm(FeedForwardNorm(layer), residual, hidden, input);
    case NormPlacement::kBranch:
      AddAndNorm(AttentionNorm(layer), {.x = Const(attended), .f = {}}, {}, attended);
      AddRows(residual, hidden);
      return AddRows({.x = Const(hidden), .f = {}}, input);
    case NormPlacement::kParallel:
      AddAndNorm(FeedForwardNorm(layer), {.x = x, .f = {}}, {}, input);
      return AddRows(residual, hidden);
  }
}

void Model::Impl::AfterFeedForward(const Pass& pass, int64_t layer, int64_t first_row,
                                   MutableMatrixView input, MutableMatrixView f) const {
  const int64_t rows = input.rows;
  const bool last = layer + 1 == config_.num_layers;
  const MutableMatrixView hidden = RowsOf(pass.ws.hidden, first_row, rows);
  const MutableMatrixView& output = pass.batch.attention.output;
  const MutableMatrixView out{output.Row(first_row), rows, output.cols, output.stride};
  const float* const bias = LayerOf(layer).feed_forward->down_bias.data();
  if (IsPost()) {
    const MutableMatrixView to = last ? out : hidden;
    AddAndNorm(FeedForwardNorm(layer), {.x = Const(input), .f = Const(f), .f_bias = bias}, {}, to);
    if (last && config_.final_norm) AddAndNorm(FinalNorm(), {.x = Const(to), .f = {}}, {}, to);
    return;
  }
  Residual residual{.x = Const(hidden), .f = Const(f), .f_bias = bias};
  if (placement() == NormPlacement::kSandwich || placement() == NormPlacement::kBranch) {
    const RowNorm norm =
        placement() == NormPlacement::kBranch ? FeedForwardNorm(layer) : FeedForwardOutputNorm(layer);
    AddAndNorm(norm, {.x = Const(f), .f = {}, .f_bias = bias}, {}, f);
    residual.f_bias = nullptr;
  }
  if (!last && !ReadsNormed(layer + 1)) {
    AddRows(residual, hidden);
  } else if (!last) {
    AddAndNorm(AttentionNorm(layer + 1), residual, hidden, RowsOf(pass.ws.normed, first_row, rows));
  } else if (config_.final_norm) {
    AddAndNorm(FinalNorm(), residual, {}, out);
  } else {
    AddRows(residual, out);
  }
}

// The final norm of bare attention layers, in place.
void Model::Impl::NormOutput(const Pass& pass) const {
  const MutableMatrixView& output = pass.batch.attention.output;
  pass.arena.ForEach(pass.plan.num_chunks(), [&](int64_t chunk, int) {
    const int64_t first_row = pass.plan.FirstRow(chunk);
    const int64_t chunk_rows = pass.plan.Rows(chunk);
    InSteps(chunk_rows, pass.InterruptionOf(first_row, chunk_rows), [&](int64_t row, int64_t rows) {
      float* const data = output.Row(first_row + row);
      const Residual x{.x = {data, rows, output.cols, output.stride}, .f = {}};
      AddAndNorm(FinalNorm(), x, {}, {data, rows, output.cols, output.stride});
    });
  });
}

}  // namespace headlight
