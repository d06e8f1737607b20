// SPDX-License-Identifier: Apache-2.0
#include "server/request/output_choice.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/heads/head_config.h"
#include "server/batch/output_work.h"

namespace headlight {
namespace {

// Labels of a reply in all: each is a text, made while others wait for their replies.
constexpr int64_t kMaxClasses = 1 << 16;

template <typename... Parts>
absl::Status Refused(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::string KindsOf(const ModelConfig& model, const FieldNames& names) {
  std::string kinds;
  for (const OutputKind kind : kAllOutputKinds) {
    if (model.Gives(kind)) absl::StrAppend(&kinds, kinds.empty() ? "" : ", ", names.kind(kind));
  }
  return kinds;
}

// What the model has a head for that gives logits; kScores where it has none.
OutputKind KindOfHead(const ModelConfig& model) {
  for (const OutputKind kind : {OutputKind::kScores, OutputKind::kTokenScores, OutputKind::kTokenLogits}) {
    if (model.Gives(kind)) return kind;
  }
  return OutputKind::kScores;
}

OutputKind KindOf(const OutputFields& fields, const ModelConfig& model) {
  return fields.of_head ? KindOfHead(model) : fields.kind;
}

absl::StatusOr<DType> FloatDType(const std::string& field, const WireDType& dtype, const WireNames& names) {
  if (dtype.dtype &&
      std::find(std::begin(kFloatTypes), std::end(kFloatTypes), *dtype.dtype) != std::end(kFloatTypes)) {
    return *dtype.dtype;
  }
  return Refused(field, ": got ", dtype.Describe(names), ", wanted ", names.dtype(DType::kF32), ", ",
                 names.dtype(DType::kBf16), " or ", names.dtype(DType::kF16));
}

// What an option is for, and that no other kind has it.
absl::Status CheckOptionsOfKind(const OutputFields& fields, OutputKind kind, const FieldNames& names) {
  const auto field = [&](const char* option) { return names.output_option(fields.place, option); };
  const auto only = [&](const char* option, OutputKind wanted) {
    return Refused(field(option), ": got one for ", names.kind(kind), ", wanted it for ", names.kind(wanted),
                   " alone");
  };
  if (kind != OutputKind::kPooled) {
    if (fields.pooling.of_model || fields.pooling.mode) return only("pooling", OutputKind::kPooled);
    if (fields.dimensions != 0) return only("dimensions", OutputKind::kPooled);
  }
  if (kind != OutputKind::kTokenLogits && !fields.positions.empty()) {
    return only("positions", OutputKind::kTokenLogits);
  }
  if (kind == OutputKind::kTokenLogits && fields.positions.empty()) {
    return Refused(field("positions"), ": got none, wanted at least one");
  }
  if (kind != OutputKind::kSparse && fields.top_k != 0) return only("top_k", OutputKind::kSparse);
  if (fields.top_k < 0) return Refused(field("top_k"), ": got ", fields.top_k, ", wanted at least 0");
  if (kind != OutputKind::kScores && fields.classes != 0) return only("classes", OutputKind::kScores);
  if (fields.classes < 0) return Refused(field("classes"), ": got ", fields.classes, ", wanted at least 0");
  const bool of_vectors = kind == OutputKind::kPooled || kind == OutputKind::kTokenVectors;
  if (fields.encoding != OutputEncoding::kFloat && !of_vectors) {
    return Refused(field("dtype"), ": got ", names.encoding(fields.encoding), " for ", names.kind(kind),
                   ", wanted it for ", names.kind(OutputKind::kPooled), " or ",
                   names.kind(OutputKind::kTokenVectors), " alone");
  }
  return absl::OkStatus();
}

absl::StatusOr<OutputRequest> CheckOutput(const OutputFields& fields, OutputKind kind,
                                          const FieldNames& names, const ModelConfig& model,
                                          DType output_dtype) {
  const auto field = [&](const char* option) { return names.output_option(fields.place, option); };
  if (!model.Gives(kind)) {
    return Refused(field("kind"), ": got ", names.kind(kind), ", which the model has not: ",
                   kind == OutputKind::kPooled ? model.no_pooling : model.heads.WhyNot(kind),
                   "; wanted one of ", KindsOf(model, names));
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckOptionsOfKind(fields, kind, names));
  OutputRequest output{.kind = kind,
                       .dtype = output_dtype,
                       .encoding = fields.encoding,
                       .pooling = {},
                       .width = model.OutputWidth(kind),
                       .rows = {},
                       .top_k = fields.top_k};
  if (fields.encoding != OutputEncoding::kFloat) output.dtype = DType::kF32;
  if (fields.dtype) {
    HEADLIGHT_ASSIGN_OR_RETURN(output.dtype, FloatDType(field("dtype"), *fields.dtype, names.tensors));
  }
  if (kind != OutputKind::kPooled) return output;
  PoolingAsked asked = fields.pooling;
  asked.of_model = !asked.mode;
  HEADLIGHT_ASSIGN_OR_RETURN(PooledChoice choice, ChoosePooling(field("pooling"), field("dimensions"), asked,
                                                                fields.dimensions, model, names));
  output.pooling = std::move(choice.pooling);
  output.as_model = choice.as_model;
  output.width = choice.dim;
  return output;
}

// Places in the tensor of ids as tokens without padding.
absl::Status ReadPositions(const std::string& field, std::span<const int64_t> positions,
                           const SequenceLayout& layout, const BatchInput& input,
                           std::vector<int64_t>& rows) {
  std::vector<int64_t> first_rows;  // of each sequence
  int64_t row = 0;
  for (const int64_t len : input.q_lens) first_rows.push_back(std::exchange(row, row + len));
  rows.reserve(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) {
    const int64_t position = positions[i];
    if (position < 0 || position >= layout.rows) {
      return Refused(field, "[", i, "]: got ", position, ", wanted 0..", layout.rows - 1);
    }
    if (layout.padded_len == 0) {
      rows.push_back(position);
      continue;
    }
    const int64_t sequence = position / layout.padded_len;
    const int64_t place = position % layout.padded_len;
    if (place >= input.q_lens[sequence]) {
      return Refused(field, "[", i, "]: got ", position, ", which is padding: sequence ", sequence, " has ",
                     input.q_lens[sequence], " tokens from ", sequence * layout.padded_len, " on");
    }
    rows.push_back(first_rows[sequence] + place);
  }
  return absl::OkStatus();
}

const char* NameOfValues(OutputKind kind) {
  return kind == OutputKind::kSparse ? "sparse at most" : Name(kind);
}

}  // namespace

absl::StatusOr<PooledChoice> ChoosePooling(const std::string& pooling_field,
                                           const std::string& dimensions_field, const PoolingAsked& asked,
                                           int64_t dimensions, const ModelConfig& model,
                                           const FieldNames& names) {
  if (asked.of_model && model.pooling.empty()) {
    return Refused(pooling_field, ": got ", names.model_pooling,
                   ", but the model has no pooling of its own: ", model.no_pooling,
                   "; wanted a mode by name, or none");
  }
  PooledChoice choice;
  if (asked.of_model) choice = {model.pooling, /*as_model=*/true, model.pooled_dim()};
  if (asked.mode) choice = {{*asked.mode}, /*as_model=*/false, model.block.attention.embed_dim};
  if (dimensions < 0 || dimensions > choice.dim) {
    if (choice.dim == 0) {
      return Refused(dimensions_field, ": got ", dimensions, ", wanted 0 without pooling");
    }
    return Refused(dimensions_field, ": got ", dimensions, ", wanted 0..", choice.dim);
  }
  if (dimensions > 0) choice.dim = dimensions;
  return choice;
}

absl::Status CheckOutputs(const RequestFields& fields, const ModelConfig& model, BatchInput& input) {
  const FieldNames& names = *fields.names;
  if (fields.pooling.of_model || fields.pooling.mode) {
    return Refused("pooling: got a mode beside outputs, wanted none: outputs of kind POOLED say theirs");
  }
  if (fields.dimensions != 0) {
    return Refused("dimensions: got ", fields.dimensions,
                   " beside outputs, wanted 0: outputs of kind POOLED ", "say theirs");
  }
  for (const OutputFields& asked : fields.outputs) {
    const OutputKind kind = KindOf(asked, model);
    for (size_t other = 0; other < input.outputs.size(); ++other) {
      if (input.outputs[other].kind != kind) continue;
      return Refused(names.output_option(asked.place, "kind"), ": got ", names.kind(kind), ", as outputs[",
                     fields.outputs[other].place, "], wanted each kind once");
    }
    HEADLIGHT_ASSIGN_OR_RETURN(OutputRequest output,
                               CheckOutput(asked, kind, names, model, input.output_dtype));
    input.outputs.push_back(std::move(output));
  }
  return absl::OkStatus();
}

absl::Status PlanOutputs(const RequestFields& fields, const SequenceLayout& layout, const Shape& query_shape,
                         BatchInput& input, ReplyPlan& reply) {
  for (size_t i = 0; i < input.outputs.size(); ++i) {
    OutputRequest& request = input.outputs[i];
    PlannedOutput& planned = reply.outputs.emplace_back();
    planned.kind = request.kind;
    planned.dtype = request.dtype;
    planned.encoding = request.encoding;
    planned.copies = fields.outputs[i].copies;
    if (fields.outputs[i].classes > 0) planned.classes = std::min(fields.outputs[i].classes, request.width);
    if (request.kind == OutputKind::kTokenLogits) {
      HEADLIGHT_RETURN_IF_ERROR(
          ReadPositions(fields.names->output_option(fields.outputs[i].place, "positions"),
                        fields.outputs[i].positions, layout, input, request.rows));
    }
    const int64_t columns =
        request.encoding == OutputEncoding::kBits ? (request.width + 7) / 8 * 8 : request.width;
    switch (request.kind) {
      case OutputKind::kHiddenStates:
      case OutputKind::kTokenScores:
        planned.shape = query_shape;
        planned.shape.back() = request.width;
        planned.padded = reply.padded_len != 0;
        break;
      case OutputKind::kPooled:
      case OutputKind::kScores:
        planned.shape = {input.num_sequences(), columns};
        break;
      case OutputKind::kTokenLogits:
        planned.shape = {std::ssize(request.rows), request.width};
        break;
      case OutputKind::kSparse:
        planned.shape = {ExtentOf(input, request).entries};
        break;
      case OutputKind::kTokenVectors: {
        const int64_t skipped = input.model->model.config().heads.Find(request.kind)->skipped_tokens;
        int64_t rows = 0;
        for (const int64_t len : input.q_lens) {
          planned.lens.push_back(std::max<int64_t>(len - skipped, 0));
          rows += planned.lens.back();
        }
        planned.shape = {rows, columns};
        break;
      }
    }
    if (planned.classes > kMaxClasses / std::max<int64_t>(1, planned.shape.front())) {
      return Refused(fields.names->output_option(fields.outputs[i].place, "classes"), ": got ",
                     planned.classes, " for ", planned.shape.front(), " sequences, wanted at most ",
                     kMaxClasses, " of all together");
    }
    if (request.encoding == OutputEncoding::kInt8) planned.scale = {planned.shape.front()};
    if (request.kind == OutputKind::kSparse || request.kind == OutputKind::kTokenVectors) {
      planned.lens_shape = {input.num_sequences()};
    }
  }
  return absl::OkStatus();
}

void AddTensors(const std::vector<PlannedOutput>& outputs, std::vector<ReplyTensor>& tensors) {
  static const Shape& nothing = *new Shape;
  for (const PlannedOutput& output : outputs) {
    const bool is_float = output.encoding == OutputEncoding::kFloat;
    const bool is_bits = output.encoding == OutputEncoding::kBits;
    const bool empty = output.shape.front() == 0;
    for (int64_t copy = 0; copy < output.copies; ++copy) {
      tensors.push_back({NameOfValues(output.kind), empty ? nothing : output.shape,
                         is_float ? output.dtype : DType::kBool, is_bits ? 8 : 1});
    }
    tensors.push_back({"scale", output.scale, DType::kF32});
    tensors.push_back({"lens", output.lens_shape, DType::kI64});
    if (output.kind == OutputKind::kSparse) tensors.push_back({"indices at most", output.shape, DType::kI32});
  }
}

}  // namespace headlight
