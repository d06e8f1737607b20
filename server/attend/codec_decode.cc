// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "core/model/model_config.h"
#include "server/attend/codec.h"
#include "server/request/reply_size.h"
#include "server/request/sequence_layout.h"
#include "server/request/token_ids.h"
#include "server/request/weights_choice.h"
#include "server/wire/envelope.h"
#include "server/wire/wire_tensor.h"

namespace headlight {
namespace {

constexpr int64_t kMaxRequestIdBytes = 128;
constexpr char kIdsShape[] = "[batch, seq_len] or [tokens]";

// Parts of an error message go in as to StrCat.
template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::span<const int64_t> SpanOf(const google::protobuf::RepeatedField<int64_t>& numbers) {
  return {numbers.data(), static_cast<size_t>(numbers.size())};
}

int64_t Sum(const std::vector<int64_t>& lens) {
  int64_t sum = 0;
  for (int64_t len : lens) sum += len;
  return sum;
}

// The leading dimensions, those of a batch.
std::span<const int64_t> AllButLast(const Shape& shape) { return {shape.data(), shape.size() - 1}; }

// Rows of a tensor whose sequences have the lengths `lens`. Full ones lie packed in either form.
InputRows RowsOf(WireTensor tensor, const SequenceLayout& layout, int64_t tokens) {
  return {std::move(tensor.bytes), tensor.dtype, tokens == layout.rows ? 0 : layout.padded_len};
}

class Decoder {
 public:
  Decoder(const ParsedAttend& parsed, const CodecContext& context)
      : request_(parsed.request), parsed_(parsed), context_(context) {}

  absl::StatusOr<DecodedAttend> Decode() && {
    HEADLIGHT_RETURN_IF_ERROR(CheckNames());
    HEADLIGHT_RETURN_IF_ERROR(CheckOptions());
    HEADLIGHT_RETURN_IF_ERROR(AssignPayloads());
    HEADLIGHT_RETURN_IF_ERROR(model().embedding ? CheckTokenIds() : DecodeQuery());
    HEADLIGHT_RETURN_IF_ERROR(CheckLengths());
    HEADLIGHT_RETURN_IF_ERROR(DecodeKeyAndValue());
    HEADLIGHT_RETURN_IF_ERROR(DecodeMask());
    HEADLIGHT_RETURN_IF_ERROR(PlanReply());
    HEADLIGHT_RETURN_IF_ERROR(DecodeTokenIds());
    const int64_t num_ids = std::ssize(task().token_ids) + std::ssize(task().token_types);
    task().size_bytes = parsed_.size_bytes + num_ids * static_cast<int64_t>(sizeof(int32_t));
    return std::move(decoded_);
  }

 private:
  AttendTask& task() { return decoded_.task; }
  const ModelConfig& model() const { return decoded_.task.model->model.config(); }
  const AttentionConfig& config() const { return model().block.attention; }

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
    HEADLIGHT_ASSIGN_OR_RETURN(task().weights, CheckWeightsOptions(request_.weights(), model()));
    HEADLIGHT_ASSIGN_OR_RETURN(task().output_dtype, OutputDType());
    HEADLIGHT_ASSIGN_OR_RETURN(task().pooling, PoolingAsked());
    return absl::OkStatus();
  }

  absl::StatusOr<Pooling> PoolingAsked() const {
    switch (request_.pooling()) {
      case v1::POOLING_MODE_UNSPECIFIED:
        return Pooling::kNone;
      case v1::POOLING_MODE_MODEL:
        if (model().pooling != Pooling::kNone) return model().pooling;
        return Invalid("pooling: got MODEL, but the model has no pooling of its own, wanted CLS or MEAN");
      case v1::POOLING_MODE_CLS:
        return Pooling::kCls;
      case v1::POOLING_MODE_MEAN:
        return Pooling::kMean;
      default:
        return Invalid("pooling: got ", static_cast<int>(request_.pooling()),
                       ", which is no PoolingMode; wanted UNSPECIFIED, MODEL, CLS or MEAN");
    }
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
    HEADLIGHT_RETURN_IF_ERROR(CheckInputKinds());
    std::vector<std::string> present;
    if (request_.has_query()) present.push_back("query");
    if (request_.has_key()) present.push_back("key");
    if (request_.has_value()) present.push_back("value");
    if (request_.has_mask()) present.push_back("mask");
    if (request_.has_token_ids()) present.push_back("token_ids");
    if (request_.has_token_types()) present.push_back("token_types");
    if (parsed_.payloads.size() != present.size()) {
      return Invalid("payloads: got ", parsed_.payloads.size(), ", wanted ", present.size(), " (",
                     absl::StrJoin(present, ", "), ")");
    }
    return absl::OkStatus();
  }

  // Whether the tensors are those that the model begins with.
  absl::Status CheckInputKinds() const {
    if (model().embedding) {
      if (!request_.has_token_ids()) return Invalid("token_ids: got none, wanted ", kIdsShape);
      const char* const surplus = request_.has_query()   ? "query"
                                  : request_.has_key()   ? "key"
                                  : request_.has_value() ? "value"
                                                         : nullptr;
      if (surplus == nullptr) return absl::OkStatus();
      return Invalid(surplus, ": got one, wanted none: the model begins at token_ids");
    }
    if (request_.has_token_ids() || request_.has_token_types()) {
      return Invalid(request_.has_token_ids() ? "token_ids" : "token_types",
                     ": got some, wanted none: the model begins at embeddings, in query");
    }
    if (!request_.has_query()) return Invalid("query: got none, wanted ", QueryShape());
    if (request_.has_value() && !request_.has_key())
      return Invalid("value: got one without key, wanted both");
    if (request_.has_key() && !TakesKey(model())) {
      return Invalid("key: got one, wanted none: the model has ", model().num_layers,
                     " layers that attend to their own input");
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
    query_layout_ = LayoutOf(AllButLast(query.shape), ragged_sequences);
    HEADLIGHT_ASSIGN_OR_RETURN(
        task().q_lens, SequenceLengths("seq_lens", "query", SpanOf(request_.seq_lens()), query_layout_));
    task().q_tokens = Sum(task().q_lens);
    task().query = RowsOf(std::move(query), query_layout_, task().q_tokens);
    return absl::OkStatus();
  }

  // Their shape and lengths; the ids themselves come last, as their payload does.
  absl::Status CheckTokenIds() {
    // The payload is found by its place from the end, behind that of the mask.
    const size_t place = parsed_.payloads.size() - (request_.has_token_types() ? 2 : 1);
    const TensorRule rule = {"token_ids", kIdsShape, {1, 2}, IdTypes()};
    HEADLIGHT_ASSIGN_OR_RETURN(token_ids_, CheckTensor(rule, request_.token_ids(), parsed_.payloads[place]));
    query_shape_ = token_ids_.shape;
    query_shape_.push_back(config().embed_dim);
    query_layout_ = LayoutOf(token_ids_.shape, std::max(request_.seq_lens_size(), 1));
    HEADLIGHT_ASSIGN_OR_RETURN(
        task().q_lens, SequenceLengths("seq_lens", "token_ids", SpanOf(request_.seq_lens()), query_layout_));
    task().q_tokens = Sum(task().q_lens);
    return absl::OkStatus();
  }

  // That the position table reaches to the end of every sequence.
  absl::Status CheckLengths() const {
    if (!model().embedding) return absl::OkStatus();
    const int64_t max_seq_len = model().embedding->max_seq_len();
    const std::vector<int64_t>& lens = decoded_.task.q_lens;
    for (size_t i = 0; i < lens.size(); ++i) {
      if (lens[i] <= max_seq_len) continue;
      return Invalid("token_ids: got ", lens[i], " tokens in sequence ", i, ", wanted at most the model's ",
                     "max_seq_len ", max_seq_len);
    }
    return absl::OkStatus();
  }

  // That the hidden states are no more than a message could hold, though only what is pooled of them will
  // travel: ids are so small that nothing else bounds the memory that they take.
  absl::Status CheckPooledSize() {
    if (!model().embedding) return absl::OkStatus();
    const Shape hidden = {task().q_tokens, config().embed_dim};
    const ReplyTensor tensor = {"hidden states", hidden, task().output_dtype};
    return CheckReplySize({&tensor, 1}, context_.max_message_bytes);
  }

  // Reads the ids, once everything else has been checked.
  absl::Status DecodeTokenIds() {
    if (!model().embedding) return absl::OkStatus();
    const EmbeddingConfig& embedding = *model().embedding;
    NextPayload();
    HEADLIGHT_ASSIGN_OR_RETURN(task().token_ids, ReadIds("token_ids", token_ids_, query_layout_,
                                                         task().q_lens, embedding.vocab_size));
    task().kind = InputKind::kTokenIds;
    if (!request_.has_token_types()) return absl::OkStatus();
    if (embedding.num_token_types == 0) {
      return Invalid("token_types: got some, wanted none: the model knows no types");
    }
    const std::string wanted = absl::StrCat(ToString(token_ids_.shape), ", the shape of token_ids");
    const TensorRule rule = {"token_types", wanted, {token_ids_.shape.size()}, IdTypes()};
    HEADLIGHT_ASSIGN_OR_RETURN(const WireTensor types,
                               CheckTensor(rule, request_.token_types(), NextPayload()));
    if (types.shape != token_ids_.shape) {
      return Invalid("token_types.shape: got ", ToString(types.shape), ", wanted ", wanted);
    }
    HEADLIGHT_ASSIGN_OR_RETURN(task().token_types, ReadIds("token_types", types, query_layout_, task().q_lens,
                                                           embedding.num_token_types));
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
    kv_layout_ = LayoutOf(AllButLast(key.shape), query_layout_.num_sequences);
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
    if (task().pooling == Pooling::kNone) {
      reply.output = query_shape_;
      // Full sequences lie packed in either form.
      if (task().q_tokens != query_layout_.rows) reply.padded_len = query_layout_.padded_len;
      if (reply.padded_len != 0) reply.q_lens = task().q_lens;
    } else {
      reply.output = {query_layout_.num_sequences, config().embed_dim};
      HEADLIGHT_RETURN_IF_ERROR(CheckPooledSize());
    }
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
  Shape query_shape_;     // of the hidden states, where the model begins at ids
  WireTensor token_ids_;  // empty unless it does
  SequenceLayout query_layout_;
  SequenceLayout kv_layout_;
};

}  // namespace

bool TakesKey(const ModelConfig& config) {
  return !config.embedding && config.num_layers == 1 && config.block.norm_placement == NormPlacement::kNone;
}

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
