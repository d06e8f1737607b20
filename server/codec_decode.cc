// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "server/codec.h"
#include "server/envelope.h"
#include "server/tensor_spec.h"
#include "server/weights_request.h"

namespace headlight {
namespace {

constexpr int64_t kMaxRequestIdBytes = 128;
constexpr int64_t kReplyEnvelopeBytes = 4096;  // more than the fields of a reply beside its payloads take

// Parts of an error message go in as to StrCat.
template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::span<const int64_t> SpanOf(const google::protobuf::RepeatedField<int64_t>& numbers) {
  return {numbers.data(), static_cast<size_t>(numbers.size())};
}

// How the sequences of one tensor lie: `num_sequences` of them, padded to `padded_len` (dense form, 0 if
// ragged).
struct SequenceLayout {
  int64_t num_sequences = 0;
  int64_t padded_len = 0;
  int64_t rows = 0;  // all dimensions but the last
};

SequenceLayout LayoutOf(const Shape& shape, int64_t ragged_sequences) {
  if (shape.size() == 3) return {shape[0], shape[1], shape[0] * shape[1]};
  return {ragged_sequences, 0, shape[0]};
}

// Lengths of the sequences, checked: one each, within the padding or summing to the rows. An empty `lens`
// means full ones. `field` and `tensor` are for messages.
absl::StatusOr<std::vector<int64_t>> SequenceLengths(const std::string& field, const std::string& tensor,
                                                     std::span<const int64_t> lens,
                                                     const SequenceLayout& layout) {
  const bool ragged = layout.padded_len == 0;
  if (lens.empty() && ragged && layout.num_sequences != 1) {
    return Invalid(field, ": got none, wanted ", layout.num_sequences, ", one for each sequence of query");
  }
  if (lens.empty())
    return std::vector<int64_t>(layout.num_sequences, ragged ? layout.rows : layout.padded_len);
  if (static_cast<int64_t>(lens.size()) != layout.num_sequences) {
    return Invalid(field, ": got ", lens.size(), ", wanted ", layout.num_sequences,
                   ", one for each sequence");
  }
  const int64_t longest = ragged ? layout.rows : layout.padded_len;
  int64_t sum = 0;
  for (size_t i = 0; i < lens.size(); ++i) {
    if (lens[i] < 1 || lens[i] > longest) {
      return Invalid(field, "[", i, "]: got ", lens[i], ", wanted 1 to ", longest);
    }
    sum += lens[i];  // at most (bytes of the message)^2: no overflow
  }
  if (ragged && sum != layout.rows) {
    return Invalid(field, ": they sum to ", sum, ", wanted the ", layout.rows, " rows of ", tensor);
  }
  return std::vector<int64_t>(lens.begin(), lens.end());
}

int64_t Sum(const std::vector<int64_t>& lens) {
  int64_t sum = 0;
  for (int64_t len : lens) sum += len;
  return sum;
}

// Rows of a tensor whose sequences have the lengths `lens`. Full ones lie packed in either form.
InputRows RowsOf(WireTensor tensor, const SequenceLayout& layout, int64_t tokens) {
  return {std::move(tensor.bytes), tensor.dtype, tokens == layout.rows ? 0 : layout.padded_len};
}

// A tensor of the reply.
struct ReplyTensor {
  const char* name;
  const Shape& shape;  // empty if the reply has none
  DType dtype;

  // Nothing if they exceed int64.
  std::optional<int64_t> SizeBytes() const {
    if (shape.empty()) return 0;
    const std::optional<int64_t> elements = NumElements(shape);
    int64_t bytes = 0;
    if (!elements || __builtin_mul_overflow(*elements, SizeOf(dtype), &bytes)) return std::nullopt;
    return bytes;
  }
};

// Whether `tensors` fit into a message. INVALID_ARGUMENT with the size of each otherwise.
absl::Status CheckReplySize(std::span<const ReplyTensor> tensors, int64_t max_message_bytes) {
  int64_t room = max_message_bytes - kReplyEnvelopeBytes;
  bool fits = true;
  std::vector<std::string> sizes;
  for (const ReplyTensor& tensor : tensors) {
    if (tensor.shape.empty()) continue;
    const std::optional<int64_t> bytes = tensor.SizeBytes();
    fits = fits && bytes && *bytes <= room;
    if (fits) room -= *bytes;
    sizes.push_back(absl::StrCat(tensor.name, " ", ToString(tensor.shape), " ",
                                 bytes ? absl::StrCat(*bytes) : "more than 2^63", " bytes"));
  }
  if (fits) return absl::OkStatus();
  return Invalid("the reply would be too large: ", absl::StrJoin(sizes, ", "), "; a message may have ",
                 max_message_bytes, " (--max-message-bytes)");
}

class Decoder {
 public:
  Decoder(const ParsedAttend& parsed, const CodecContext& context)
      : request_(parsed.request), parsed_(parsed), context_(context) {}

  absl::StatusOr<DecodedAttend> Decode() && {
    HEADLIGHT_RETURN_IF_ERROR(CheckNames());
    HEADLIGHT_RETURN_IF_ERROR(CheckOptions());
    HEADLIGHT_RETURN_IF_ERROR(AssignPayloads());
    HEADLIGHT_RETURN_IF_ERROR(DecodeQuery());
    HEADLIGHT_RETURN_IF_ERROR(DecodeKeyAndValue());
    HEADLIGHT_RETURN_IF_ERROR(DecodeMask());
    HEADLIGHT_RETURN_IF_ERROR(PlanReply());
    task().size_bytes = parsed_.size_bytes;
    return std::move(decoded_);
  }

 private:
  AttendTask& task() { return decoded_.task; }
  const AttentionConfig& config() const { return decoded_.task.model->model.config().block.attention; }

  absl::Status CheckNames() {
    if (static_cast<int64_t>(request_.request_id().size()) > kMaxRequestIdBytes) {
      return Invalid("request_id: got ", request_.request_id().size(), " bytes, wanted at most ",
                     kMaxRequestIdBytes);
    }
    if (request_.model().empty()) return Invalid("model: got none, wanted a model's name");
    HEADLIGHT_ASSIGN_OR_RETURN(task().model,
                               context_.registry.Find(request_.model(), request_.model_version()));
    decoded_.reply.model = task().model;
    decoded_.reply.request_id = request_.request_id();
    return absl::OkStatus();
  }

  // Everything that is neither a tensor nor a length.
  absl::Status CheckOptions() {
    if (request_.has_window_left() && request_.window_left() < 0) {
      return Invalid("window_left: got ", request_.window_left(), ", wanted at least 0");
    }
    if (request_.has_window_right() && request_.window_right() < 0) {
      return Invalid("window_right: got ", request_.window_right(), ", wanted at least 0");
    }
    task().visibility.causal = request_.causal();
    if (request_.has_window_left()) task().visibility.window_left = request_.window_left();
    if (request_.has_window_right()) task().visibility.window_right = request_.window_right();
    HEADLIGHT_ASSIGN_OR_RETURN(task().weights, CheckWeightsOptions(request_.weights(), config()));
    HEADLIGHT_ASSIGN_OR_RETURN(task().output_dtype, OutputDType());
    return absl::OkStatus();
  }

  absl::StatusOr<DType> OutputDType() const {
    switch (request_.output_dtype()) {
      case v1::DTYPE_UNSPECIFIED:
      case v1::DTYPE_F32:
        return DType::kF32;
      case v1::DTYPE_F16:
        return DType::kF16;
      case v1::DTYPE_BF16:
        return DType::kBf16;
      default:
        return Invalid("output_dtype: got ", DescribeDType(request_.output_dtype()),
                       ", wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16");
    }
  }

  // Finds each tensor's payload: one for each TensorSpec that is present, in the order of their numbers.
  absl::Status AssignPayloads() {
    if (!request_.has_query()) return Invalid("query: got none, wanted ", QueryShape());
    if (request_.has_value() && !request_.has_key())
      return Invalid("value: got one without key, wanted both");
    std::vector<std::string> present = {"query"};
    if (request_.has_key()) present.push_back("key");
    if (request_.has_value()) present.push_back("value");
    if (request_.has_mask()) present.push_back("mask");
    if (parsed_.payloads.size() != present.size()) {
      return Invalid("payloads: got ", parsed_.payloads.size(), ", wanted ", present.size(), " (",
                     absl::StrJoin(present, ", "), ")");
    }
    return absl::OkStatus();
  }

  const ByteSegments& NextPayload() { return parsed_.payloads[next_payload_++]; }

  std::string QueryShape() const {
    return absl::StrCat("[batch, seq_len, ", config().embed_dim, "] or [tokens, ", config().embed_dim, "]");
  }

  absl::Status DecodeQuery() {
    const TensorRule rule = {"query", QueryShape(), {2, 3}, FloatTypes()};
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor query, CheckTensor(rule, request_.query(), NextPayload()));
    query_shape_ = query.shape;
    if (query.shape.back() != config().embed_dim) {
      return Invalid("query.shape: got ", ToString(query.shape), ", wanted ", rule.wanted_shape);
    }
    const int64_t ragged_sequences = std::max(request_.seq_lens_size(), 1);
    query_layout_ = LayoutOf(query.shape, ragged_sequences);
    HEADLIGHT_ASSIGN_OR_RETURN(
        task().q_lens, SequenceLengths("seq_lens", "query", SpanOf(request_.seq_lens()), query_layout_));
    task().q_tokens = Sum(task().q_lens);
    task().query = RowsOf(std::move(query), query_layout_, task().q_tokens);
    return absl::OkStatus();
  }

  absl::Status DecodeKeyAndValue() {
    kv_layout_ = query_layout_;
    if (!request_.has_key()) {
      if (request_.kv_seq_lens_size() > 0) {
        return Invalid("kv_seq_lens: got ", request_.kv_seq_lens_size(), " without key, wanted none");
      }
      task().kind = InputKind::kSelf;
      task().kv_lens = task().q_lens;
      task().kv_tokens = task().q_tokens;
      return CheckSelfWidths();
    }
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor key, DecodeSource("key", request_.key(), config().kdim));
    kv_layout_ = LayoutOf(key.shape, query_layout_.num_sequences);
    HEADLIGHT_ASSIGN_OR_RETURN(
        task().kv_lens, SequenceLengths("kv_seq_lens", "key", SpanOf(request_.kv_seq_lens()), kv_layout_));
    task().kv_tokens = Sum(task().kv_lens);
    task().kind = InputKind::kSharedKey;
    if (request_.has_value()) {
      HEADLIGHT_ASSIGN_OR_RETURN(WireTensor value, DecodeSource("value", request_.value(), config().vdim));
      if (!std::equal(key.shape.begin(), key.shape.end() - 1, value.shape.begin(), value.shape.end() - 1)) {
        return Invalid("value.shape: got ", ToString(value.shape), ", wanted the leading dimensions of key ",
                       ToString(key.shape));
      }
      task().kind = InputKind::kKeyAndValue;
      task().value = RowsOf(std::move(value), kv_layout_, task().kv_tokens);
    } else if (config().vdim != config().kdim) {
      return Invalid("value: got none, wanted one: the model's vdim ", config().vdim, " is not its kdim ",
                     config().kdim);
    }
    task().key = RowsOf(std::move(key), kv_layout_, task().kv_tokens);
    return absl::OkStatus();
  }

  absl::Status CheckSelfWidths() const {
    if (config().kdim == config().embed_dim && config().vdim == config().embed_dim) return absl::OkStatus();
    return Invalid("key: got none, wanted one: the model's kdim ", config().kdim, " and vdim ", config().vdim,
                   " are not both its embed_dim ", config().embed_dim);
  }

  // key or value: of query's rank and batch.
  absl::StatusOr<WireTensor> DecodeSource(const std::string& field, const v1::TensorSpec& spec,
                                          int64_t width) {
    const bool dense = query_shape_.size() == 3;
    const std::string wanted = dense ? absl::StrCat("[", query_shape_[0], ", kv_len, ", width, "]")
                                     : absl::StrCat("[kv_tokens, ", width, "]");
    const TensorRule rule = {field, wanted, {query_shape_.size()}, FloatTypes()};
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor tensor, CheckTensor(rule, spec, NextPayload()));
    if (tensor.shape.back() != width || (dense && tensor.shape[0] != query_shape_[0])) {
      return Invalid(field, ".shape: got ", ToString(tensor.shape), ", wanted ", wanted);
    }
    return tensor;
  }

  // Padded lengths in the dense form, longest ones in the ragged form.
  int64_t MaxQueryLen() const { return MaxLen(query_layout_, decoded_.task.q_lens); }
  int64_t MaxKvLen() const { return MaxLen(kv_layout_, decoded_.task.kv_lens); }
  static int64_t MaxLen(const SequenceLayout& layout, const std::vector<int64_t>& lens) {
    return layout.padded_len != 0 ? layout.padded_len : *std::max_element(lens.begin(), lens.end());
  }

  absl::Status DecodeMask() {
    if (!request_.has_mask()) return absl::OkStatus();
    const int64_t batch = query_layout_.num_sequences;
    const int64_t heads = config().num_heads;
    const std::string wanted = absl::StrCat("[", batch, " or 1, ", heads, " or 1, ", MaxQueryLen(), ", ",
                                            MaxKvLen(), "] (batch, num_heads, q_len, kv_len)");
    const TensorRule rule = {"mask", wanted, {4}, {DType::kBool, DType::kF32, DType::kBf16, DType::kF16}};
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor mask, CheckTensor(rule, request_.mask(), NextPayload()));
    const Shape& shape = mask.shape;
    if ((shape[0] != 1 && shape[0] != batch) || (shape[1] != 1 && shape[1] != heads) ||
        shape[2] != MaxQueryLen() || shape[3] != MaxKvLen()) {
      return Invalid("mask.shape: got ", ToString(shape), ", wanted ", wanted);
    }
    task().mask = {std::move(mask.bytes), mask.dtype, shape[0], shape[1], shape[2], shape[3]};
    return absl::OkStatus();
  }

  // What the reply will hold, and whether it may.
  absl::Status PlanReply() {
    ReplyLayout& reply = decoded_.reply;
    reply.dtype = task().output_dtype;
    reply.output = query_shape_;
    reply.padded_len = task().query.padded_len;
    if (reply.padded_len != 0) reply.q_lens = task().q_lens;
    WeightsRequest& weights = task().weights;
    HEADLIGHT_ASSIGN_OR_RETURN(WeightsShapes shapes, PlanWeights(config(), query_layout_.num_sequences,
                                                                 MaxQueryLen(), MaxKvLen(), weights));
    reply.weights = std::move(shapes.weights);
    reply.weights_keys = std::move(shapes.keys);
    reply.received_mass = std::move(shapes.received_mass);
    const std::vector<ReplyTensor> tensors = {{"output", reply.output, reply.dtype},
                                              {"weights", reply.weights, reply.dtype},
                                              {"weights_keys", reply.weights_keys, DType::kI32},
                                              {"received_mass", reply.received_mass, reply.dtype}};
    HEADLIGHT_RETURN_IF_ERROR(CheckReplySize(tensors, context_.max_message_bytes));
    weights.num_weights = *tensors[1].SizeBytes() / SizeOf(reply.dtype);
    weights.num_keys = *tensors[2].SizeBytes() / SizeOf(DType::kI32);
    weights.num_received = *tensors[3].SizeBytes() / SizeOf(reply.dtype);
    return absl::OkStatus();
  }

  const v1::AttendRequest& request_;
  const ParsedAttend& parsed_;
  const CodecContext& context_;
  DecodedAttend decoded_;
  size_t next_payload_ = 0;
  Shape query_shape_;
  SequenceLayout query_layout_;
  SequenceLayout kv_layout_;
};

}  // namespace

absl::StatusOr<ReceivedMessage> Receive(const grpc::ByteBuffer& buffer) {
  ReceivedMessage message;
  const grpc::Status status = buffer.Dump(&message.slices);
  // A call that ends before its message has come in full is handed over without one.
  if (!status.ok()) return absl::CancelledError("the caller went away before the request had arrived");
  for (const grpc::Slice& slice : message.slices) {
    message.segments.Append(std::as_bytes(std::span(slice.begin(), slice.size())));
  }
  return message;
}

absl::StatusOr<ParsedAttend> ParseAttend(const ByteSegments& message) {
  static const EnvelopeFormat& format =
      *new EnvelopeFormat{"AttendRequest", v1::AttendRequest::kPayloadsFieldNumber};
  HEADLIGHT_ASSIGN_OR_RETURN(Envelope envelope, ScanEnvelope(message, format));
  ParsedAttend parsed;
  if (!parsed.request.ParseFromArray(envelope.fields.data(), static_cast<int>(envelope.fields.size()))) {
    return Invalid(
        "AttendRequest: protobuf cannot read its fields; wanted a message of headlight.v1.AttendRequest");
  }
  parsed.payloads = std::move(envelope.payloads);
  parsed.size_bytes = message.size_bytes();
  return parsed;
}

absl::StatusOr<DecodedAttend> DecodeAttend(const ParsedAttend& parsed, const CodecContext& context) {
  return Decoder(parsed, context).Decode();
}

}  // namespace headlight
