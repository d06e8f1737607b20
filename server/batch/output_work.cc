// SPDX-License-Identifier: Apache-2.0
#include "server/batch/output_work.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/pooling.h"

namespace headlight {
namespace {

constexpr int64_t kSequencesAtOnce = 16;
constexpr int64_t kPanelsAtOnce = 8;
constexpr float kLargestInt8 = 127.0f;

// The rows of a step's input have to be adjacent, and its results lie so.
MutableMatrixView Adjacent(std::vector<float>& memory, int64_t rows, int64_t cols) {
  memory.resize(rows * cols);
  return {memory.data(), rows, cols, cols};
}

const PackedHead& HeadFor(const Model& model, OutputKind kind) { return model.heads().For(kind); }

bool IsLanguageModel(const ModelConfig& config, OutputKind kind) {
  const HeadConfig* const head = config.heads.Find(kind);
  return head != nullptr && head->kind == HeadKind::kLanguageModel;
}

// scale[i] = max |x| / 127, values = round(x / scale). What is no number becomes 0.
void EncodeInt8(MatrixView rows, int8_t* values, float* scale) {
  for (int64_t i = 0; i < rows.rows; ++i, values += rows.cols) {
    const float* const row = rows.Row(i);
    float largest = 0;
    for (int64_t col = 0; col < rows.cols; ++col) largest = std::max(largest, std::abs(row[col]));
    scale[i] = largest / kLargestInt8;
    for (int64_t col = 0; col < rows.cols; ++col) {
      const float quotient = scale[i] > 0 ? row[col] / scale[i] : 0.0f;
      values[col] =
          std::isfinite(quotient)
              ? static_cast<int8_t>(std::clamp(std::nearbyint(quotient), -kLargestInt8, kLargestInt8))
              : int8_t{0};
    }
  }
}

void EncodeBits(MatrixView rows, uint8_t* bytes) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int64_t first = 0; first < rows.cols; first += 8) {
      uint8_t byte = 0;
      for (int64_t bit = 0; bit < 8 && first + bit < rows.cols; ++bit) {
        if (rows.Row(i)[first + bit] > 0) byte |= static_cast<uint8_t>(0x80 >> bit);
      }
      *bytes++ = byte;
    }
  }
}

int64_t TokensKept(const BatchInput& input, int64_t skipped) {
  int64_t tokens = 0;
  for (const int64_t len : input.q_lens) tokens += std::max<int64_t>(len - skipped, 0);
  return tokens;
}

}  // namespace

bool PoolVectors(const Model& model, const PoolingPlan& plan, MatrixView hidden,
                 std::span<const int64_t> cu_lens, MutableMatrixView out, const Interruption& interruption) {
  const PackedRowSteps& steps = model.heads().pooled_steps();
  const bool normalize = model.config().normalize_pooled;
  if (!plan.as_model || steps.empty()) {
    PoolSequences(hidden, cu_lens, plan.poolings, normalize, out);
    return true;
  }
  std::vector<float> raw_memory, memory;
  const MutableMatrixView raw = Adjacent(raw_memory, out.rows, steps.in_dim());
  PoolSequences(hidden, cu_lens, plan.poolings, /*normalize=*/false, raw);
  const MutableMatrixView whole = Adjacent(memory, out.rows, steps.out_dim());
  if (!steps.Run(Const(raw), whole, interruption)) return false;
  for (int64_t row = 0; row < out.rows; ++row) std::copy_n(whole.Row(row), out.cols, out.Row(row));
  if (normalize) NormalizeRows(out);
  return true;
}

OutputExtent ExtentOf(const BatchInput& input, const OutputRequest& request) {
  const ModelConfig& config = input.model->model.config();
  const int64_t embed_dim = config.block.attention.embed_dim;
  const int64_t sequences = input.num_sequences();
  OutputExtent extent;
  if (request.kind == OutputKind::kHiddenStates) {
    extent.values = input.q_tokens * embed_dim;
    return extent;
  }
  if (request.kind == OutputKind::kPooled) {
    extent.values = sequences * request.width;
    if (request.as_model) {
      extent.flops = static_cast<double>(sequences) * static_cast<double>(FlopsPerRow(config.pooled_steps));
    }
    return extent;
  }
  const HeadConfig& head = *config.heads.Find(request.kind);
  const int64_t width = OutDim(head.steps, embed_dim);
  int64_t rows = input.q_tokens;
  if (head.kind == HeadKind::kScores) rows = sequences;
  if (request.kind == OutputKind::kTokenLogits) rows = std::ssize(request.rows);
  if (head.kind == HeadKind::kTokenVectors) rows = TokensKept(input, head.skipped_tokens);
  extent.flops = static_cast<double>(rows) * static_cast<double>(FlopsPerRow(head.steps));
  extent.values = rows * request.width;
  if (head.kind == HeadKind::kLanguageModel) {
    extent.flops += 2.0 * static_cast<double>(rows) * static_cast<double>(width * head.vocab_size);
    extent.rows = rows * width;
  }
  if (request.kind != OutputKind::kSparse) return extent;
  // All weights first, then those that are above 0.
  const bool of_tokens = head.kind == HeadKind::kTokenWeights;
  extent.weights = of_tokens ? rows : sequences * head.vocab_size;
  extent.values = 0;
  for (const int64_t len : input.q_lens) {
    const int64_t most = of_tokens ? len : head.vocab_size;
    extent.entries += request.top_k == 0 ? most : std::min(most, request.top_k);
  }
  return extent;
}

absl::Status OutputWork::Acquire(int64_t size_bytes, std::shared_ptr<PooledBuffer>& buffer) {
  if (size_bytes == 0) return absl::OkStatus();
  buffer = pool_.Acquire(size_bytes, memory_);
  if (buffer != nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("memory is short: no ", size_bytes, " bytes for the batch's outputs"));
}

absl::Status OutputWork::Add(const BatchInput& input, int64_t first_row) {
  Input& added = inputs_.emplace_back(Input{&input, first_row, {0}, {}});
  for (const int64_t len : input.q_lens) added.cu_lens.push_back(added.cu_lens.back() + len);
  added.results.resize(input.outputs.size());
  if (input.cancelled->IsCancelled()) return absl::OkStatus();
  for (size_t place = 0; place < input.outputs.size(); ++place) {
    const OutputRequest& request = input.outputs[place];
    Output& output = *outputs_.emplace_back(std::make_unique<Output>());
    output.input = inputs_.size() - 1;
    output.place = place;
    if (request.kind == OutputKind::kHiddenStates) continue;
    const OutputExtent extent = ExtentOf(input, request);
    const bool sparse = request.kind == OutputKind::kSparse;
    if (sparse) output.sparse.resize(input.num_sequences());
    HEADLIGHT_RETURN_IF_ERROR(
        Acquire((sparse ? extent.weights : extent.values) * SizeOf(DType::kF32), output.numbers));
    HEADLIGHT_RETURN_IF_ERROR(Acquire(extent.rows * SizeOf(DType::kF32), output.rows));
  }
  return absl::OkStatus();
}

// Rows that pass through the output's steps.
int64_t OutputWork::NumRows(const Output& output) const {
  const BatchInput& input = *InputOf(output).input;
  const OutputRequest& request = RequestOf(output);
  switch (request.kind) {
    case OutputKind::kPooled:
    case OutputKind::kScores:
      return input.num_sequences();
    case OutputKind::kTokenLogits:
      return std::ssize(request.rows);
    case OutputKind::kTokenVectors:
      return TokensKept(input, HeadFor(model_, request.kind).config().skipped_tokens);
    default:
      return input.q_tokens;
  }
}

void OutputWork::AddPieces(Output& output, int64_t count, int64_t at_once, std::vector<Piece>& pieces) const {
  for (int64_t begin = 0; begin < count; begin += at_once) {
    pieces.push_back({&output, begin, std::min(begin + at_once, count)});
  }
}

template <typename Body>
void OutputWork::ForEachPiece(ComputeArena& arena, const std::vector<Piece>& pieces, const Body& body) const {
  if (pieces.empty()) return;
  arena.ForEach(std::ssize(pieces), [&](int64_t item, int) {
    const Piece& piece = pieces[item];
    const WhileWanted interruption(arena, *InputOf(*piece.output).input->cancelled);
    if (interruption.MayGoOn()) body(piece, interruption);
  });
}

absl::Status OutputWork::Run(ComputeArena& arena) {
  std::vector<Piece> rows, vocab, sparse;
  for (const std::unique_ptr<Output>& output : outputs_) {
    const OutputKind kind = RequestOf(*output).kind;
    if (kind == OutputKind::kHiddenStates) continue;
    const bool of_sequences = kind == OutputKind::kPooled || kind == OutputKind::kScores;
    AddPieces(*output, NumRows(*output), of_sequences ? kSequencesAtOnce : kStepRows, rows);
    if (IsLanguageModel(model_.config(), kind)) {
      AddPieces(*output, HeadFor(model_, kind).vocab().num_panels(), kPanelsAtOnce, vocab);
    }
    if (kind == OutputKind::kSparse) AddPieces(*output, InputOf(*output).input->num_sequences(), 1, sparse);
  }
  ForEachPiece(arena, rows, [&](const Piece& piece, const Interruption& interruption) {
    ComputeRows(piece, interruption);
  });
  ForEachPiece(arena, vocab, [&](const Piece& piece, const Interruption& interruption) {
    ComputeVocab(piece, interruption);
  });
  ForEachPiece(arena, sparse, [&](const Piece& piece, const Interruption&) { CollectSparse(piece); });
  NarrowingList narrowing;
  std::vector<Output*> encoded;
  for (const std::unique_ptr<Output>& output : outputs_) {
    if (InputOf(*output).input->cancelled->IsCancelled()) continue;
    HEADLIGHT_RETURN_IF_ERROR(Finish(*output, narrowing, encoded));
  }
  narrowing.Run(arena);
  if (!encoded.empty()) {
    arena.ForEach(std::ssize(encoded), [&](int64_t item, int) { Encode(*encoded[item]); });
  }
  return absl::OkStatus();
}

void OutputWork::ComputeRows(const Piece& piece, const Interruption& interruption) const {
  const Output& output = *piece.output;
  const OutputRequest& request = RequestOf(output);
  const Input& input = InputOf(output);
  const MatrixView hidden = HiddenOf(input);
  const int64_t count = piece.end - piece.begin;
  if (request.kind == OutputKind::kPooled) {
    const std::span<const int64_t> cu_lens = std::span(input.cu_lens).subspan(piece.begin, count + 1);
    const MutableMatrixView out = {output.numbers->floats() + piece.begin * request.width, count,
                                   request.width, request.width};
    PoolVectors(model_, {request.pooling, request.as_model}, hidden, cu_lens, out, interruption);
    return;
  }
  if (request.kind == OutputKind::kScores) return ComputeScores(piece, interruption);
  if (request.kind == OutputKind::kTokenVectors) return ComputeTokenVectors(piece, interruption);
  const PackedRowSteps& steps = HeadFor(model_, request.kind).steps();
  const int64_t width = steps.out_dim();
  float* const to = (output.rows == nullptr ? output.numbers : output.rows)->floats();
  const MutableMatrixView out = {to + piece.begin * width, count, width, width};
  if (request.kind != OutputKind::kTokenLogits) {
    steps.Run({hidden.Row(piece.begin), count, hidden.cols, hidden.stride}, out, interruption);
    return;
  }
  std::vector<float> memory;
  const MutableMatrixView asked = Adjacent(memory, count, hidden.cols);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(hidden.Row(request.rows[piece.begin + i]), hidden.cols, asked.Row(i));
  }
  steps.Run(Const(asked), out, interruption);
}

void OutputWork::ComputeScores(const Piece& piece, const Interruption& interruption) const {
  const Output& output = *piece.output;
  const Input& input = InputOf(output);
  const MatrixView hidden = HiddenOf(input);
  const PackedHead& head = HeadFor(model_, OutputKind::kScores);
  const int64_t count = piece.end - piece.begin;
  const int64_t width = head.steps().out_dim();
  std::vector<float> memory;
  const MutableMatrixView rows = Adjacent(memory, count, hidden.cols);
  const Pooling pooling = PoolingOf(head.config().scores_of);
  PoolSequences(hidden, std::span(input.cu_lens).subspan(piece.begin, count + 1), {&pooling, 1},
                /*normalize=*/false, rows);
  head.steps().Run(Const(rows), {output.numbers->floats() + piece.begin * width, count, width, width},
                   interruption);
}

// Kept tokens are counted over all sequences.
void OutputWork::ComputeTokenVectors(const Piece& piece, const Interruption& interruption) const {
  const Output& output = *piece.output;
  const Input& input = InputOf(output);
  const MatrixView hidden = HiddenOf(input);
  const PackedHead& head = HeadFor(model_, OutputKind::kTokenVectors);
  const int64_t skipped = head.config().skipped_tokens;
  const int64_t count = piece.end - piece.begin;
  const int64_t width = head.steps().out_dim();
  std::vector<float> memory;
  const MutableMatrixView rows = Adjacent(memory, count, hidden.cols);
  int64_t kept = 0;  // before the sequence at hand
  for (size_t i = 0; i + 1 < input.cu_lens.size(); ++i) {
    const int64_t first = std::min(input.cu_lens[i] + skipped, input.cu_lens[i + 1]);
    const int64_t len = input.cu_lens[i + 1] - first;
    for (int64_t row = std::max(piece.begin - kept, int64_t{0}); row < std::min(len, piece.end - kept);
         ++row) {
      std::copy_n(hidden.Row(first + row), hidden.cols, rows.Row(kept + row - piece.begin));
    }
    kept += len;
  }
  const MutableMatrixView out = {output.numbers->floats() + piece.begin * width, count, width, width};
  if (head.steps().Run(Const(rows), out, interruption)) NormalizeRows(out);
}

void OutputWork::ComputeVocab(const Piece& piece, const Interruption& interruption) const {
  const Output& output = *piece.output;
  const Input& input = InputOf(output);
  const OutputRequest& request = RequestOf(output);
  const PackedHead& head = HeadFor(model_, request.kind);
  const int64_t width = head.steps().out_dim();
  const int64_t vocab_size = head.config().vocab_size;
  const MatrixView rows = {output.rows->floats(), NumRows(output), width, width};
  if (request.kind == OutputKind::kTokenLogits) {
    head.vocab().Logits(rows, piece.begin, piece.end,
                        {output.numbers->floats(), rows.rows, vocab_size, vocab_size}, interruption);
    return;
  }
  const int64_t sequences = input.input->num_sequences();
  head.vocab().SparseWeights(rows, input.cu_lens, piece.begin, piece.end,
                             {output.numbers->floats(), sequences, vocab_size, vocab_size}, interruption);
}

// What is above 0 of the one sequence of the piece.
void OutputWork::CollectSparse(const Piece& piece) const {
  Output& output = *piece.output;
  const Input& input = InputOf(output);
  const HeadConfig& head = HeadFor(model_, OutputKind::kSparse).config();
  const int64_t sequence = piece.begin;
  const int64_t top_k = RequestOf(output).top_k;
  if (head.kind == HeadKind::kLanguageModel) {
    const float* const weights = output.numbers->floats() + sequence * head.vocab_size;
    output.sparse[sequence] = SparseOfIds({weights, static_cast<size_t>(head.vocab_size)}, top_k);
    return;
  }
  const int64_t first = input.cu_lens[sequence];
  const auto len = static_cast<size_t>(input.cu_lens[sequence + 1] - first);
  output.sparse[sequence] =
      SparseOfTokens({output.numbers->floats() + first, len},
                     token_ids_.subspan(input.first_row + first, len), head.silent_ids, top_k);
}

absl::Status OutputWork::Finish(Output& output, NarrowingList& narrowing, std::vector<Output*>& encoded) {
  const OutputRequest& request = RequestOf(output);
  OutputResult& result = inputs_[output.input].results[output.place];
  if (request.kind == OutputKind::kSparse) return FinishSparse(output, narrowing);
  if (request.encoding != OutputEncoding::kFloat) return FinishEncoded(output, encoded);
  if (request.kind == OutputKind::kHiddenStates) {
    const MatrixView hidden = HiddenOf(InputOf(output));
    return FinishNumbers(hidden.data, hidden.rows * hidden.cols, nullptr, request.dtype, narrowing, result);
  }
  const int64_t count = ExtentOf(*InputOf(output).input, request).values;
  if (count == 0) return absl::OkStatus();
  return FinishNumbers(output.numbers->floats(), count, output.numbers, request.dtype, narrowing, result);
}

// `count` numbers from where they are: there, if `owner` has nothing else and they stay f32, else in memory
// of their own.
absl::Status OutputWork::FinishNumbers(const float* from, int64_t count,
                                       const std::shared_ptr<PooledBuffer>& owner, DType dtype,
                                       NarrowingList& narrowing, OutputResult& result) {
  if (owner != nullptr && dtype == DType::kF32) {
    owner->Relabel(MemoryKind::kReply);
    result.values = {owner, from};
    return absl::OkStatus();
  }
  std::shared_ptr<PooledBuffer> own;
  HEADLIGHT_RETURN_IF_ERROR(Acquire(count * SizeOf(dtype), own));
  own->Relabel(MemoryKind::kReply);
  narrowing.Add(from, count, dtype, own->bytes());
  result.values = {own, own->bytes()};
  return absl::OkStatus();
}

absl::Status OutputWork::FinishSparse(Output& output, NarrowingList& narrowing) {
  OutputResult& result = inputs_[output.input].results[output.place];
  int64_t count = 0;
  for (const std::vector<SparseEntry>& entries : output.sparse) {
    result.lens.push_back(std::ssize(entries));
    count += std::ssize(entries);
  }
  if (count == 0) return absl::OkStatus();
  std::shared_ptr<PooledBuffer> values, indices;
  HEADLIGHT_RETURN_IF_ERROR(Acquire(count * SizeOf(DType::kF32), values));
  HEADLIGHT_RETURN_IF_ERROR(Acquire(count * SizeOf(DType::kI32), indices));
  auto* id = static_cast<int32_t*>(static_cast<void*>(indices->bytes()));
  float* value = values->floats();
  result.indices = {indices, id};
  indices->Relabel(MemoryKind::kReply);
  for (std::vector<SparseEntry>& entries : output.sparse) {
    for (const SparseEntry& entry : entries) {
      *id++ = entry.id;
      *value++ = entry.weight;
    }
    entries = {};
  }
  output.numbers = values;  // until it is narrowed
  return FinishNumbers(values->floats(), count, values, RequestOf(output).dtype, narrowing, result);
}

absl::Status OutputWork::FinishEncoded(Output& output, std::vector<Output*>& encoded) {
  OutputResult& result = inputs_[output.input].results[output.place];
  const OutputRequest& request = RequestOf(output);
  const int64_t rows = NumRows(output);
  if (rows == 0) return absl::OkStatus();
  const bool bits = request.encoding == OutputEncoding::kBits;
  std::shared_ptr<PooledBuffer> values;
  HEADLIGHT_RETURN_IF_ERROR(Acquire(rows * (bits ? (request.width + 7) / 8 : request.width), values));
  values->Relabel(MemoryKind::kReply);
  result.values = {values, values->bytes()};
  if (!bits) {
    std::shared_ptr<PooledBuffer> scale;
    HEADLIGHT_RETURN_IF_ERROR(Acquire(rows * SizeOf(DType::kF32), scale));
    scale->Relabel(MemoryKind::kReply);
    result.scale = {scale, scale->floats()};
  }
  encoded.push_back(&output);
  return absl::OkStatus();
}

void OutputWork::Encode(const Output& output) const {
  const OutputRequest& request = RequestOf(output);
  const OutputResult& result = InputOf(output).results[output.place];
  const MatrixView rows = {output.numbers->floats(), NumRows(output), request.width, request.width};
  auto* const values = const_cast<void*>(result.values.get());  // made here, and read by nobody yet
  if (request.encoding == OutputEncoding::kBits) return EncodeBits(rows, static_cast<uint8_t*>(values));
  EncodeInt8(rows, static_cast<int8_t*>(values), const_cast<float*>(result.scale.get()));
}

}  // namespace headlight
