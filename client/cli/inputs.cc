// SPDX-License-Identifier: Apache-2.0
#include "client/cli/inputs.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "client/cli/attention_mask.h"
#include "client/cli/random.h"
#include "client/files/npy_header.h"
#include "client/files/npz.h"
#include "client/npy.h"

namespace headlight::client {
namespace {

// Numbers that lost digits on the way are worth a word.
void NoteDtype(const std::string& where, const std::string& dtype, Inputs& inputs) {
  if (dtype == "<f8") inputs.notes.push_back(absl::StrCat(where, ": f64 was rounded to f32"));
}

template <typename Read, typename Member>
absl::Status ReadIfNamed(const std::string& path, Read read, Member Inputs::*member, Inputs& inputs) {
  if (path.empty()) return absl::OkStatus();
  if (IsNpzFile(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": got an .npz archive, wanted a .npy file; --input takes archives"));
  }
  std::string dtype;
  auto contents = read(path, &dtype);
  if (!contents.ok()) return contents.status();
  inputs.*member = *std::move(contents);
  NoteDtype(path, dtype, inputs);
  return absl::OkStatus();
}

// seq_lens and kv_seq_lens: [sequences], in either width.
absl::Status ReadLengths(NpzReader& archive, const std::string& path, const std::string& name,
                         std::vector<int64_t>& lengths) {
  const absl::StatusOr<Ids> ids = archive.ReadIds(name);
  if (!ids.ok()) return ids.status();
  if (ids->shape.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", name, ": got shape ", ToString(ids->shape), ", wanted [sequences]"));
  }
  std::visit([&](const auto& values) { lengths.assign(values.begin(), values.end()); }, ids->values);
  return absl::OkStatus();
}

// The same array as others call it: tokenizers, and those who speak the Open Inference Protocol.
std::string OwnName(const std::string& name) {
  if (name == "input_ids") return "token_ids";
  if (name == "token_type_ids") return "token_types";
  return name;
}

absl::Status InArray(const std::string& path, const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, what));
}

// Lengths of an attention_mask [batch, seq_len]: of the keys where there are some, else of the input.
absl::Status TakeLengths(NpzReader& archive, const std::string& path, const std::string& name,
                         const Ids& mask, Inputs& inputs) {
  const char* const own_name = inputs.key ? "kv_seq_lens" : "seq_lens";
  if (archive.Has(own_name)) {
    return InArray(path, name,
                   absl::StrCat(" and ", own_name, " both say how long sequences are, wanted one"));
  }
  const std::vector<int64_t> values = std::visit(
      [](const auto& stored) { return std::vector<int64_t>(stored.begin(), stored.end()); }, mask.values);
  const Shape& masked = inputs.key         ? inputs.key->shape
                        : inputs.token_ids ? inputs.token_ids->shape
                                           : inputs.query->shape;
  auto lengths = LengthsOfAttentionMask(mask.shape, values, masked);
  if (!lengths.ok()) return InArray(path, name, absl::StrCat(": ", std::string(lengths.status().message())));
  (inputs.key ? inputs.kv_seq_lens : inputs.seq_lens) = *std::move(lengths);
  return absl::OkStatus();
}

// An attention_mask [batch, seq_len] of whole numbers or bool becomes lengths; one of four dimensions is a
// mask. What it is of must have been read.
absl::Status ReadAttentionMask(NpzReader& archive, const std::string& path, const std::string& name,
                               Inputs& inputs) {
  std::string dtype;
  const absl::StatusOr<Ids> numbers = archive.ReadIds(name, &dtype);
  if (numbers.ok()) return TakeLengths(archive, path, name, *numbers, inputs);
  if (dtype == "<i4" || dtype == "<i8") return numbers.status();
  absl::StatusOr<Mask> mask = archive.ReadMask(name, &dtype);
  if (!mask.ok()) return mask.status();
  if (mask->shape.size() != 4) {
    const auto* const allowed = std::get_if<std::vector<uint8_t>>(&mask->values);
    if (allowed == nullptr) {
      return InArray(path, name,
                     absl::StrCat(": got ", dtype, " ", ToString(mask->shape),
                                  ", wanted whole numbers or bool for [batch, seq_len]"));
    }
    const std::vector<int32_t> values(allowed->begin(), allowed->end());
    return TakeLengths(archive, path, name, {.shape = mask->shape, .values = values}, inputs);
  }
  if (inputs.mask) return InArray(path, name, ": got a mask too, wanted one of the two");
  inputs.mask = *std::move(mask);
  NoteDtype(absl::StrCat(path, ": ", name), dtype, inputs);
  return absl::OkStatus();
}

// Reads one array into the member that has its name.
absl::Status ReadMember(NpzReader& archive, const std::string& path, const std::string& name,
                        Inputs& inputs) {
  std::string dtype;
  const auto read = [&](auto NpzReader::*method, auto& member) -> absl::Status {
    if (member) {
      const char* const where = archive.Has(OwnName(name)) && OwnName(name) != name
                                    ? "under its other name"
                                    : "from a file of its own";
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", name, ": got it ", where, " too, wanted one of the two"));
    }
    auto array = (archive.*method)(name, &dtype);
    if (!array.ok()) return array.status();
    member = *std::move(array);
    NoteDtype(absl::StrCat(path, ": ", name), dtype, inputs);
    return absl::OkStatus();
  };
  const std::string own_name = OwnName(name);
  if (own_name == "query") return read(&NpzReader::ReadTensor, inputs.query);
  if (own_name == "key") return read(&NpzReader::ReadTensor, inputs.key);
  if (own_name == "value") return read(&NpzReader::ReadTensor, inputs.value);
  if (own_name == "mask") return read(&NpzReader::ReadMask, inputs.mask);
  if (own_name == "token_ids") return read(&NpzReader::ReadIds, inputs.token_ids);
  if (own_name == "token_types") return read(&NpzReader::ReadIds, inputs.token_types);
  if (own_name == "seq_lens") return ReadLengths(archive, path, name, inputs.seq_lens);
  if (own_name == "kv_seq_lens") return ReadLengths(archive, path, name, inputs.kv_seq_lens);
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": got an array '", name,
      "', wanted query, key, value, mask, token_ids, token_types, seq_lens and kv_seq_lens, or input_ids, "
      "token_type_ids and attention_mask, only"));
}

absl::Status ReadArchive(const std::string& path, int64_t max_bytes, Inputs& inputs) {
  constexpr char kAttentionMask[] = "attention_mask";
  absl::StatusOr<NpzReader> archive = NpzReader::Open(path, max_bytes);
  if (!archive.ok()) return archive.status();
  const bool has_ids = archive->Has("token_ids") || archive->Has("input_ids");
  if (archive->Has("query") == has_ids) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": got ", has_ids ? "both" : "neither",
                                                   " of query and token_ids, wanted one of them"));
  }
  for (const std::string& name : archive->names()) {
    if (name == kAttentionMask) continue;  // wants the input's shape
    if (absl::Status status = ReadMember(*archive, path, name, inputs); !status.ok()) return status;
  }
  return archive->Has(kAttentionMask) ? ReadAttentionMask(*archive, path, kAttentionMask, inputs)
                                      : absl::OkStatus();
}

// The largest archive that could still be sent: all of it f64 that travels as 16 bits, each array behind its
// header.
int64_t MaxArchiveBytes(int64_t max_message_bytes) {
  constexpr int64_t kArrays = 8;  // as many as one request can have
  return 4 * max_message_bytes + kArrays * static_cast<int64_t>(kMaxNpyHeaderBytes);
}

// Whether flags say again what an archive said.
absl::Status CheckArchive(const RequestFlags& flags, const InputFiles& files, const Inputs& inputs) {
  const auto both = [&](const char* flag, const char* name) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " and ", files.query, " both say what ", name, " is"));
  };
  if (!inputs.seq_lens.empty() && !flags.seq_lens.empty()) return both("--seq-lens", "seq_lens");
  if (!inputs.kv_seq_lens.empty() && !flags.kv_seq_lens.empty()) return both("--kv-seq-lens", "kv_seq_lens");
  if (inputs.key && !flags.kv_shape.empty()) return both("--kv-shape", "key");
  return absl::OkStatus();
}

// [batch, len, width] for a dense tensor, [sum of lengths, width] for a ragged one.
Shape RandomShape(const Shape& dense, const std::vector<int64_t>& lengths, int64_t width) {
  if (!dense.empty()) return {dense[0], dense[1], width};
  return {std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), width};
}

absl::Status OverLimit(const char* field, const Shape& shape, const char* dtype, int64_t max_bytes) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": shape ", ToString(shape), " of ", dtype,
                                                 " is over the limit of ", max_bytes,
                                                 " bytes a message (--max-message-bytes)"));
}

absl::Status AddRandom(const char* field, const Shape& shape, int64_t max_bytes, RandomNormal& random,
                       std::optional<Tensor>& tensor) {
  const std::optional<int64_t> num_elements = NumElements(shape);
  if (!num_elements || *num_elements > max_bytes / static_cast<int64_t>(sizeof(float))) {
    return OverLimit(field, shape, "f32", max_bytes);
  }
  tensor = random.NextTensor(shape);
  return absl::OkStatus();
}

absl::Status AddRandomIds(const RequestFlags& flags, int64_t vocab_size, int64_t max_bytes, Inputs& inputs) {
  if (vocab_size < 1 || vocab_size > kMaxVocabSize) {
    return absl::InternalError(absl::StrCat("the server says that the model's vocab_size is ", vocab_size,
                                            ", wanted 1 to ", kMaxVocabSize));
  }
  Shape shape = RandomShape(flags.shape, flags.seq_lens, 1);
  shape.pop_back();
  const std::optional<int64_t> num_elements = NumElements(shape);
  if (!num_elements || *num_elements > max_bytes / static_cast<int64_t>(sizeof(int32_t))) {
    return OverLimit("token_ids", shape, "i32", max_bytes);
  }
  inputs.token_ids = RandomIds(flags.seed, std::move(shape), vocab_size);
  return absl::OkStatus();
}

bool WantsRandomKey(const RequestFlags& flags) {
  return !flags.kv_shape.empty() || !flags.kv_seq_lens.empty();
}

std::vector<v1::OutputSpec> OutputsOf(const RequestFlags& flags) {
  std::vector<v1::OutputSpec> outputs;
  for (const v1::OutputKind kind : flags.outputs) {
    v1::OutputSpec& output = outputs.emplace_back();
    output.set_kind(kind);
    if (kind == v1::OUTPUT_KIND_POOLED || kind == v1::OUTPUT_KIND_TOKEN_VECTORS) {
      output.set_dtype(flags.vectors_dtype);
    }
    if (kind == v1::OUTPUT_KIND_POOLED) {
      output.set_pooling(flags.pooling);
      output.set_dimensions(flags.dimensions);
    }
    if (kind == v1::OUTPUT_KIND_TOKEN_LOGITS) {
      output.mutable_positions()->Assign(flags.positions.begin(), flags.positions.end());
    }
    if (kind == v1::OUTPUT_KIND_SPARSE) output.set_top_k(flags.sparse_top_k);
  }
  return outputs;
}

// That options of one output have it.
absl::Status CheckOutputFlags(const RequestFlags& flags) {
  const auto has = [&](v1::OutputKind kind) {
    return std::find(flags.outputs.begin(), flags.outputs.end(), kind) != flags.outputs.end();
  };
  if (!flags.positions.empty() && !has(v1::OUTPUT_KIND_TOKEN_LOGITS)) {
    return absl::InvalidArgumentError("--positions wants --output-kind token_logits: it says where");
  }
  if (flags.sparse_top_k > 0 && !has(v1::OUTPUT_KIND_SPARSE)) {
    return absl::InvalidArgumentError("--sparse-top-k wants --output-kind sparse: it says how much of it");
  }
  if (flags.vectors_dtype != v1::DTYPE_UNSPECIFIED && !has(v1::OUTPUT_KIND_POOLED) &&
      !has(v1::OUTPUT_KIND_TOKEN_VECTORS)) {
    return absl::InvalidArgumentError("--vectors-dtype wants pooled or token_vectors among --output-kind");
  }
  const bool pools = flags.pooling != v1::POOLING_MODE_UNSPECIFIED || flags.dimensions != 0;
  if (pools && !flags.outputs.empty() && !has(v1::OUTPUT_KIND_POOLED)) {
    return absl::InvalidArgumentError("--pooling and --dimensions want pooled among --output-kind");
  }
  return absl::OkStatus();
}

}  // namespace

AttendCall Inputs::Call(const RequestFlags& flags) const {
  AttendCall call{
      .model = flags.model,
      .model_version = flags.model_version,
      .seq_lens = seq_lens.empty() ? flags.seq_lens : seq_lens,
      .kv_seq_lens = kv_seq_lens.empty() ? flags.kv_seq_lens : kv_seq_lens,
      .causal = flags.causal,
      .window_left = flags.window_left,
      .window_right = flags.window_right,
      .weights = flags.weights,
      .top_k = flags.top_k,
      .heads = flags.heads,
      .query_begin = flags.queries.begin,
      .query_end = flags.queries.end,
      .layer = flags.layer,
      .layers = flags.layers,
      .grid_rows = flags.grid.empty() ? 0 : flags.grid.front(),
      .grid_cols = flags.grid.empty() ? 0 : flags.grid.back(),
      .pooling = flags.outputs.empty() ? flags.pooling : v1::POOLING_MODE_UNSPECIFIED,
      .dimensions = flags.outputs.empty() ? flags.dimensions : 0,
      .outputs = OutputsOf(flags),
      .priority = flags.priority,
      .dtype = flags.dtype,
      .output_dtype = flags.output_dtype,
  };
  if (query) call.query = query->View();
  if (token_ids) call.token_ids = token_ids->View();
  if (token_types) call.token_types = token_types->View();
  if (key) call.key = key->View();
  if (value) call.value = value->View();
  if (mask) call.mask = mask->View();
  return call;
}

absl::Status CheckInputFlags(const RequestFlags& flags, const InputFiles& files) {
  const auto both = [](const char* one, const char* other, const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(one, " and ", other, " both say what the ", what, " is"));
  };
  if (!files.query.empty() && !flags.shape.empty()) return both("--input", "--shape", "query");
  if (!files.key.empty() && !flags.kv_shape.empty()) return both("--key", "--kv-shape", "key");
  if (!files.query.empty() && !files.token_ids.empty()) return both("--input", "--ids", "input");
  if (!files.token_ids.empty() && !flags.shape.empty()) return both("--ids", "--shape", "input");
  if (!files.token_types.empty() && files.token_ids.empty()) {
    return absl::InvalidArgumentError("--token-types wants --ids: they are the types of these");
  }
  if (files.query.empty() && files.token_ids.empty() && flags.shape.empty() && flags.seq_lens.empty()) {
    return absl::InvalidArgumentError("nothing says what the query is, wanted --shape or --seq-lens");
  }
  if (!files.value.empty() && files.key.empty()) {
    return absl::InvalidArgumentError("--value wants --key: values of their own belong to keys of their own");
  }
  if ((flags.weights == v1::WEIGHTS_MODE_TOP_K) != (flags.top_k > 0)) {
    return absl::InvalidArgumentError("--weights top-k and --top-k want each other");
  }
  if (flags.weights == v1::WEIGHTS_MODE_NONE && flags.layer) {
    return absl::InvalidArgumentError("--layer wants --weights: it says whose");
  }
  if (flags.weights == v1::WEIGHTS_MODE_NONE && !flags.layers.empty()) {
    return absl::InvalidArgumentError("--layers wants --weights: they say whose");
  }
  if (flags.layer && !flags.layers.empty()) return both("--layer", "--layers", "layer");
  if (flags.weights != v1::WEIGHTS_MODE_GRID && !flags.grid.empty()) {
    return absl::InvalidArgumentError("--grid wants --weights grid: it says how many cells");
  }
  if (flags.weights == v1::WEIGHTS_MODE_NONE && (!flags.heads.empty() || flags.queries.end > 0)) {
    return absl::InvalidArgumentError("--heads and --queries want --weights: they say which");
  }
  return CheckOutputFlags(flags);
}

absl::StatusOr<Inputs> ReadInputs(const RequestFlags& flags, const InputFiles& files,
                                  int64_t max_message_bytes) {
  Inputs inputs;
  const bool archive = !files.query.empty() && IsNpzFile(files.query);
  absl::Status status;
  if (!archive) status = ReadIfNamed(files.query, ReadNpyTensorFile, &Inputs::query, inputs);
  if (status.ok()) status = ReadIfNamed(files.token_ids, ReadNpyIdsFile, &Inputs::token_ids, inputs);
  if (status.ok()) status = ReadIfNamed(files.token_types, ReadNpyIdsFile, &Inputs::token_types, inputs);
  if (status.ok()) status = ReadIfNamed(files.key, ReadNpyTensorFile, &Inputs::key, inputs);
  if (status.ok()) status = ReadIfNamed(files.value, ReadNpyTensorFile, &Inputs::value, inputs);
  if (status.ok()) status = ReadIfNamed(files.mask, ReadNpyMaskFile, &Inputs::mask, inputs);
  if (status.ok() && archive) status = ReadArchive(files.query, MaxArchiveBytes(max_message_bytes), inputs);
  if (status.ok() && archive) status = CheckArchive(flags, files, inputs);
  if (!status.ok()) return status;
  return inputs;
}

AttendCall DescribeRandomInputs(const RequestFlags& flags, const v1::Model& model) {
  AttendCall call = Inputs().Call(flags);
  Shape input = RandomShape(flags.shape, flags.seq_lens, model.embed_dim());
  if (model.takes_token_ids()) {
    input.pop_back();
    call.token_ids = IdsView{.shape = std::move(input), .values = std::span<const int32_t>()};
    return call;
  }
  call.query = TensorView{.shape = std::move(input), .values = {}};
  if (!WantsRandomKey(flags)) return call;
  call.key = TensorView{.shape = RandomShape(flags.kv_shape, flags.kv_seq_lens, model.kdim()), .values = {}};
  if (model.vdim() != model.kdim()) {
    call.value =
        TensorView{.shape = RandomShape(flags.kv_shape, flags.kv_seq_lens, model.vdim()), .values = {}};
  }
  return call;
}

bool NeedsRandomInputs(const RequestFlags& flags, const InputFiles& files) {
  return (files.query.empty() && files.token_ids.empty()) || (files.key.empty() && WantsRandomKey(flags));
}

absl::Status AddRandomInputs(const RequestFlags& flags, const v1::Model& model, int64_t max_bytes,
                             Inputs& inputs) {
  RandomNormal random(flags.seed);
  if (model.takes_token_ids()) {
    return inputs.token_ids ? absl::OkStatus() : AddRandomIds(flags, model.vocab_size(), max_bytes, inputs);
  }
  if (!inputs.query) {
    const Shape shape = RandomShape(flags.shape, flags.seq_lens, model.embed_dim());
    const absl::Status status = AddRandom("query", shape, max_bytes, random, inputs.query);
    if (!status.ok()) return status;
  }
  if (inputs.key || !WantsRandomKey(flags)) return absl::OkStatus();
  const Shape key_shape = RandomShape(flags.kv_shape, flags.kv_seq_lens, model.kdim());
  absl::Status status = AddRandom("key", key_shape, max_bytes, random, inputs.key);
  if (status.ok() && model.vdim() != model.kdim()) {
    const Shape value_shape = RandomShape(flags.kv_shape, flags.kv_seq_lens, model.vdim());
    status = AddRandom("value", value_shape, max_bytes, random, inputs.value);
  }
  return status;
}

int64_t NumTokens(const Shape& query_shape, const std::vector<int64_t>& seq_lens) {
  if (!seq_lens.empty()) return std::accumulate(seq_lens.begin(), seq_lens.end(), int64_t{0});
  int64_t tokens = 1;
  for (size_t i = 0; i + 1 < query_shape.size(); ++i) tokens *= query_shape[i];
  return tokens;
}

}  // namespace headlight::client
