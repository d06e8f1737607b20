// SPDX-License-Identifier: Apache-2.0
#include "client/cli/inputs.h"

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/random.h"
#include "client/npy.h"

namespace headlight::client {
namespace {

template <typename Array>
absl::Status ReadIfNamed(const std::string& path, absl::StatusOr<Array> (*read)(const std::string&),
                         std::optional<Array>& array) {
  if (path.empty()) return absl::OkStatus();
  absl::StatusOr<Array> contents = read(path);
  if (contents.ok()) array = *std::move(contents);
  return contents.status();
}

// [batch, len, width] for a dense tensor, [sum of lengths, width] for a ragged one.
Shape RandomShape(const Shape& dense, const std::vector<int64_t>& lengths, int64_t width) {
  if (!dense.empty()) return {dense[0], dense[1], width};
  return {std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), width};
}

absl::Status AddRandom(const char* field, const Shape& shape, int64_t max_bytes, RandomNormal& random,
                       std::optional<Tensor>& tensor) {
  const std::optional<int64_t> num_elements = NumElements(shape);
  if (!num_elements || *num_elements > max_bytes / static_cast<int64_t>(sizeof(float))) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": shape ", ToString(shape),
                                                   " of f32 is over the limit of ", max_bytes,
                                                   " bytes a message (--max-message-bytes)"));
  }
  tensor = random.NextTensor(shape);
  return absl::OkStatus();
}

bool WantsRandomKey(const RequestFlags& flags) {
  return !flags.kv_shape.empty() || !flags.kv_seq_lens.empty();
}

}  // namespace

AttendCall Inputs::Call(const RequestFlags& flags) const {
  AttendCall call{
      .model = flags.model,
      .model_version = flags.model_version,
      .query = query->View(),
      .seq_lens = flags.seq_lens,
      .kv_seq_lens = flags.kv_seq_lens,
      .causal = flags.causal,
      .window_left = flags.window_left,
      .window_right = flags.window_right,
      .weights = flags.weights,
      .top_k = flags.top_k,
      .heads = flags.heads,
      .query_begin = flags.queries.begin,
      .query_end = flags.queries.end,
      .dtype = flags.dtype,
      .output_dtype = flags.output_dtype,
  };
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
  if (files.query.empty() && flags.shape.empty() && flags.seq_lens.empty()) {
    return absl::InvalidArgumentError("nothing says what the query is, wanted --shape or --seq-lens");
  }
  if (!files.value.empty() && files.key.empty()) {
    return absl::InvalidArgumentError("--value wants --key: values of their own belong to keys of their own");
  }
  if ((flags.weights == v1::WEIGHTS_MODE_TOP_K) != (flags.top_k > 0)) {
    return absl::InvalidArgumentError("--weights top-k and --top-k want each other");
  }
  if (flags.weights == v1::WEIGHTS_MODE_NONE && (!flags.heads.empty() || flags.queries.end > 0)) {
    return absl::InvalidArgumentError("--heads and --queries want --weights: they say which");
  }
  return absl::OkStatus();
}

absl::StatusOr<Inputs> ReadInputs(const InputFiles& files) {
  Inputs inputs;
  absl::Status status = ReadIfNamed(files.query, ReadNpyTensorFile, inputs.query);
  if (status.ok()) status = ReadIfNamed(files.key, ReadNpyTensorFile, inputs.key);
  if (status.ok()) status = ReadIfNamed(files.value, ReadNpyTensorFile, inputs.value);
  if (status.ok()) status = ReadIfNamed(files.mask, ReadNpyMaskFile, inputs.mask);
  if (!status.ok()) return status;
  return inputs;
}

bool NeedsRandomInputs(const RequestFlags& flags, const InputFiles& files) {
  return files.query.empty() || (files.key.empty() && WantsRandomKey(flags));
}

absl::Status AddRandomInputs(const RequestFlags& flags, const v1::Model& model, int64_t max_bytes,
                             Inputs& inputs) {
  RandomNormal random(flags.seed);
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
