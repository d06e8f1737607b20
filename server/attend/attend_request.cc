// SPDX-License-Identifier: Apache-2.0
#include "server/attend/attend_request.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "server/attend/dtype_names.h"
#include "server/attend/output_kinds.h"
#include "server/attend/pooling_modes.h"
#include "server/wire/envelope.h"

namespace headlight {
namespace {

using Mode = WeightsSink::Mode;

absl::Status NotInEnum(const std::string& field, int number, const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", number, ", which is no ", wanted));
}

std::span<const int64_t> SpanOf(const google::protobuf::RepeatedField<int64_t>& numbers) {
  return {numbers.data(), static_cast<size_t>(numbers.size())};
}

absl::StatusOr<Mode> ModeOf(v1::WeightsMode mode) {
  switch (mode) {
    case v1::WEIGHTS_MODE_UNSPECIFIED:
    case v1::WEIGHTS_MODE_NONE:
      return Mode::kNone;
    case v1::WEIGHTS_MODE_FULL:
      return Mode::kFull;
    case v1::WEIGHTS_MODE_MEAN:
      return Mode::kMean;
    case v1::WEIGHTS_MODE_TOP_K:
      return Mode::kTopK;
    case v1::WEIGHTS_MODE_SUMMARY:
      return Mode::kSummary;
    case v1::WEIGHTS_MODE_GRID:
      return Mode::kGrid;
    default:
      return NotInEnum("weights.mode", static_cast<int>(mode),
                       "WeightsMode; wanted NONE, FULL, MEAN, TOP_K, SUMMARY or GRID");
  }
}

absl::StatusOr<PoolingAsked> PoolingOf(v1::PoolingMode mode) {
  switch (mode) {
    case v1::POOLING_MODE_UNSPECIFIED:
      return PoolingAsked();
    case v1::POOLING_MODE_MODEL:
      return PoolingAsked{.of_model = true};
    default:
      if (const std::optional<Pooling> pooling = FromProto(mode)) return PoolingAsked{.mode = pooling};
      return NotInEnum(
          "pooling", static_cast<int>(mode),
          "PoolingMode; wanted UNSPECIFIED, MODEL, CLS, MEAN, MAX, MEAN_SQRT_LEN, WEIGHTED_MEAN or "
          "LAST");
  }
}

absl::StatusOr<WeightsFields> WeightsOf(const v1::WeightsOptions& options) {
  WeightsFields weights;
  HEADLIGHT_ASSIGN_OR_RETURN(weights.mode, ModeOf(options.mode()));
  weights.top_k = options.top_k();
  weights.heads = SpanOf(options.heads());
  weights.query_begin = options.query_begin();
  weights.query_end = options.query_end();
  if (options.has_layer()) weights.layer = options.layer();
  weights.layers = SpanOf(options.layers());
  weights.grid_rows = options.grid_rows();
  weights.grid_cols = options.grid_cols();
  return weights;
}

absl::StatusOr<OutputFields> OutputOf(const std::string& prefix, const v1::OutputSpec& spec) {
  OutputFields output;
  const std::optional<OutputKind> kind = FromProto(spec.kind());
  if (!kind) {
    return NotInEnum(
        prefix + "kind", static_cast<int>(spec.kind()),
        "OutputKind; wanted HIDDEN_STATES, POOLED, SCORES, TOKEN_SCORES, TOKEN_LOGITS, SPARSE or "
        "TOKEN_VECTORS");
  }
  output.kind = *kind;
  if (spec.dtype() == v1::DTYPE_I8) {
    output.encoding = OutputEncoding::kInt8;
  } else if (spec.dtype() == v1::DTYPE_BITS) {
    output.encoding = OutputEncoding::kBits;
  } else if (spec.dtype() != v1::DTYPE_UNSPECIFIED) {
    output.dtype = FromProto(spec.dtype());
  }
  absl::StatusOr<PoolingAsked> pooling = PoolingOf(spec.pooling());
  if (!pooling.ok()) return absl::InvalidArgumentError(absl::StrCat(prefix, pooling.status().message()));
  output.pooling = *pooling;
  output.dimensions = spec.dimensions();
  output.positions = SpanOf(spec.positions());
  output.top_k = spec.top_k();
  return output;
}

// A tensor's place in the order of payloads is that of its role.
struct NamedSpec {
  Role role;
  const char* field;
  const v1::TensorSpec* spec;  // null if the request has none
};

std::vector<NamedSpec> SpecsOf(const v1::AttendRequest& request) {
  std::vector<NamedSpec> specs;
  const auto add = [&](Role role, const char* field, bool present, const v1::TensorSpec& spec) {
    if (present) specs.push_back({role, field, &spec});
  };
  add(Role::kQuery, "query", request.has_query(), request.query());
  add(Role::kKey, "key", request.has_key(), request.key());
  add(Role::kValue, "value", request.has_value(), request.value());
  add(Role::kMask, "mask", request.has_mask(), request.mask());
  add(Role::kTokenIds, "token_ids", request.has_token_ids(), request.token_ids());
  add(Role::kTokenTypes, "token_types", request.has_token_types(), request.token_types());
  return specs;
}

// Everything but the tensors.
absl::StatusOr<RequestFields> OptionsOf(const v1::AttendRequest& request) {
  RequestFields fields;
  fields.names = &kAttendNames;
  fields.model = request.model();
  fields.model_version = request.model_version();
  fields.request_id = request.request_id();
  fields.seq_lens = SpanOf(request.seq_lens());
  fields.kv_seq_lens = SpanOf(request.kv_seq_lens());
  fields.causal = request.causal();
  if (request.has_window_left()) fields.window_left = request.window_left();
  if (request.has_window_right()) fields.window_right = request.window_right();
  HEADLIGHT_ASSIGN_OR_RETURN(fields.weights, WeightsOf(request.weights()));
  HEADLIGHT_ASSIGN_OR_RETURN(fields.pooling, PoolingOf(request.pooling()));
  fields.dimensions = request.dimensions();
  for (int i = 0; i < request.outputs_size(); ++i) {
    HEADLIGHT_ASSIGN_OR_RETURN(OutputFields output,
                               OutputOf(absl::StrCat("outputs[", i, "]."), request.outputs(i)));
    output.place = i;
    fields.outputs.push_back(output);
  }
  if (request.output_dtype() != v1::DTYPE_UNSPECIFIED)
    fields.output_dtype = FromProto(request.output_dtype());
  fields.timeout_us = request.timeout_us();
  fields.priority = request.priority();
  return fields;
}

NamedTensor TensorOf(const NamedSpec& spec, const ByteSegments* payload) {
  return {spec.field, FromProto(spec.spec->dtype()), SpanOf(spec.spec->shape()), payload};
}

}  // namespace

absl::StatusOr<ParsedAttend> ParseAttend(const ByteSegments& message) {
  static const EnvelopeFormat& format =
      *new EnvelopeFormat{"AttendRequest", v1::AttendRequest::kPayloadsFieldNumber};
  HEADLIGHT_ASSIGN_OR_RETURN(Envelope envelope, ScanEnvelope(message, format));
  ParsedAttend parsed;
  if (!parsed.request.ParseFromArray(envelope.fields.data(), static_cast<int>(envelope.fields.size()))) {
    return absl::InvalidArgumentError(
        "AttendRequest: protobuf cannot read its fields; wanted a message of headlight.v1.AttendRequest");
  }
  parsed.request.DiscardUnknownFields();  // which would stay, many times as large, until the reply
  parsed.payloads = std::move(envelope.payloads);
  parsed.size_bytes = message.size_bytes();
  return parsed;
}

absl::StatusOr<RequestFields> FieldsOf(const ParsedAttend& parsed) {
  HEADLIGHT_ASSIGN_OR_RETURN(RequestFields fields, OptionsOf(parsed.request));
  const std::vector<NamedSpec> specs = SpecsOf(parsed.request);
  if (parsed.payloads.size() != specs.size()) {
    const auto field = [](std::string* out, const NamedSpec& spec) { absl::StrAppend(out, spec.field); };
    fields.payloads =
        absl::InvalidArgumentError(absl::StrCat("payloads: got ", parsed.payloads.size(), ", wanted ",
                                                specs.size(), " (", absl::StrJoin(specs, ", ", field), ")"));
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool there = i < parsed.payloads.size();
    fields.tensor(specs[i].role) = TensorOf(specs[i], there ? &parsed.payloads[i] : nullptr);
  }
  return fields;
}

absl::StatusOr<RequestFields> DescribedFieldsOf(const v1::AttendRequest& request) {
  if (request.payloads_size() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("request.payloads: got ", request.payloads_size(), ", wanted none: shapes are enough"));
  }
  HEADLIGHT_ASSIGN_OR_RETURN(RequestFields fields, OptionsOf(request));
  for (const NamedSpec& spec : SpecsOf(request)) fields.tensor(spec.role) = TensorOf(spec, nullptr);
  return fields;
}

}  // namespace headlight
