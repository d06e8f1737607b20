// SPDX-License-Identifier: Apache-2.0
#include "server/request/check_request.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "core/model/config.h"
#include "server/request/output_choice.h"
#include "server/request/sequence_layout.h"
#include "server/request/token_ids.h"
#include "server/request/weights_choice.h"

namespace headlight {
namespace {

constexpr int64_t kMaxRequestIdBytes = 128;
constexpr int64_t kMaxPriority = 10;
constexpr char kIdsShape[] = "[batch, seq_len] or [tokens]";

constexpr DType kMaskTypes[] = {DType::kBool, DType::kF32, DType::kBf16, DType::kF16};
constexpr size_t kQueryRanks[] = {2, 3};
constexpr size_t kIdRanks[] = {1, 2};
constexpr size_t kMaskRanks[] = {4};

// Parts of an error message go in as to StrCat.
template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
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

class RequestChecker {
 public:
  RequestChecker(std::shared_ptr<const LoadedModel> model, const RequestFields& fields,
                 int64_t max_message_bytes)
      : fields_(fields), max_message_bytes_(max_message_bytes) {
    checked_.reply.model = model;
    input().model = std::move(model);
  }

  absl::StatusOr<CheckedRequest> Check() && {
    HEADLIGHT_RETURN_IF_ERROR(CheckId());
    HEADLIGHT_RETURN_IF_ERROR(CheckOptions());
    HEADLIGHT_RETURN_IF_ERROR(CheckInputKinds());
    HEADLIGHT_RETURN_IF_ERROR(fields_.payloads);
    HEADLIGHT_RETURN_IF_ERROR(model().embedding ? CheckTokenIds() : CheckQuery());
    HEADLIGHT_RETURN_IF_ERROR(CheckLengths());
    HEADLIGHT_RETURN_IF_ERROR(CheckKeyAndValue());
    HEADLIGHT_RETURN_IF_ERROR(CheckMask());
    HEADLIGHT_RETURN_IF_ERROR(PlanReply());
    HEADLIGHT_RETURN_IF_ERROR(ReadTokenIds());
    return std::move(checked_);
  }

 private:
  BatchInput& input() { return checked_.input; }
  const ModelConfig& model() const { return checked_.input.model->model.config(); }
  const AttentionConfig& config() const { return model().block.attention; }
  const FieldNames& names() const { return *fields_.names; }
  bool Has(Role role) const { return fields_.tensor(role).has_value(); }
  const char* FieldOf(Role role) const { return fields_.tensor(role)->field; }

  absl::StatusOr<WireTensor> Tensor(Role role, std::span<const size_t> ranks, std::span<const DType> dtypes,
                                    absl::FunctionRef<std::string()> wanted_shape) const {
    const NamedTensor& tensor = *fields_.tensor(role);
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor checked,
                               CheckTensor(tensor, {ranks, dtypes, wanted_shape}, names().tensors));
    if (tensor.payload != nullptr) return checked;
    const int64_t bytes =
        *NumElements(tensor.shape) * SizeOf(checked.dtype);  // CheckTensor has seen that it fits
    if (bytes > max_message_bytes_) {
      return Invalid(tensor.field, ".shape: ", ToString(tensor.shape), " is ", bytes,
                     " bytes, wanted at most ", max_message_bytes_, ", the most that a message may have");
    }
    return checked;
  }

  absl::Status CheckId() {
    if (std::ssize(fields_.request_id) > kMaxRequestIdBytes) {
      return Invalid(names().request_id, ": got ", fields_.request_id.size(), " bytes, wanted at most ",
                     kMaxRequestIdBytes);
    }
    checked_.reply.request_id = fields_.request_id;
    return absl::OkStatus();
  }

  // Everything that is neither a tensor nor a length.
  absl::Status CheckOptions() {
    if (fields_.window_left.value_or(0) < 0) {
      return Invalid("window_left: got ", *fields_.window_left, ", wanted at least 0");
    }
    if (fields_.window_right.value_or(0) < 0) {
      return Invalid("window_right: got ", *fields_.window_right, ", wanted at least 0");
    }
    input().visibility.causal = fields_.causal;
    if (fields_.window_left) input().visibility.window_left = *fields_.window_left;
    if (fields_.window_right) input().visibility.window_right = *fields_.window_right;
    HEADLIGHT_ASSIGN_OR_RETURN(input().weights, CheckWeights(fields_.weights, model(), names()));
    HEADLIGHT_ASSIGN_OR_RETURN(input().output_dtype, OutputDType());
    HEADLIGHT_RETURN_IF_ERROR(CheckPooling());
    if (fields_.timeout_us < 0)
      return Invalid(names().timeout, ": got ", fields_.timeout_us, ", wanted at least 0");
    if (fields_.priority < -kMaxPriority || fields_.priority > kMaxPriority) {
      return Invalid(names().priority, ": got ", fields_.priority, ", wanted ", -kMaxPriority, " to ",
                     kMaxPriority);
    }
    checked_.timeout_us = fields_.timeout_us;
    checked_.priority = static_cast<int>(fields_.priority);
    return absl::OkStatus();
  }

  absl::Status CheckPooling() {
    if (!fields_.outputs.empty()) return CheckOutputs(fields_, model(), input());
    HEADLIGHT_ASSIGN_OR_RETURN(PooledChoice choice, ChoosePooling("pooling", "dimensions", fields_.pooling,
                                                                  fields_.dimensions, model(), names()));
    input().pooling = std::move(choice.pooling);
    input().pools_as_model = choice.as_model;
    input().pooled_dim = choice.dim;
    return absl::OkStatus();
  }

  absl::StatusOr<DType> OutputDType() const {
    const std::optional<DType>& dtype = fields_.output_dtype.dtype;
    if (dtype && std::find(std::begin(kFloatTypes), std::end(kFloatTypes), *dtype) != std::end(kFloatTypes)) {
      return *dtype;
    }
    const auto name = names().tensors.dtype;
    return Invalid("output_dtype: got ", fields_.output_dtype.Describe(names().tensors), ", wanted ",
                   name(DType::kF32), ", ", name(DType::kBf16), " or ", name(DType::kF16));
  }

  // Whether the tensors are those that the model begins with.
  absl::Status CheckInputKinds() const {
    if (model().embedding) {
      if (!Has(Role::kTokenIds)) return Invalid(names().token_ids, ": got none, wanted ", kIdsShape);
      for (Role surplus : {Role::kQuery, Role::kKey, Role::kValue}) {
        if (!Has(surplus)) continue;
        return Invalid(FieldOf(surplus), ": got one, wanted none: the model begins at ", names().token_ids);
      }
      return absl::OkStatus();
    }
    for (Role surplus : {Role::kTokenIds, Role::kTokenTypes}) {
      if (!Has(surplus)) continue;
      return Invalid(FieldOf(surplus), ": got some, wanted none: the model begins at embeddings, in query");
    }
    if (!Has(Role::kQuery)) return Invalid("query: got none, wanted ", QueryShape());
    if (Has(Role::kValue) && !Has(Role::kKey)) return Invalid("value: got one without key, wanted both");
    if (Has(Role::kKey) && !TakesKey(model())) {
      return Invalid(FieldOf(Role::kKey), ": got one, wanted none: the model has ", model().num_layers,
                     " layers that attend to their own input");
    }
    return absl::OkStatus();
  }

  std::string QueryShape() const {
    return absl::StrCat("[batch, seq_len, ", config().embed_dim, "] or [tokens, ", config().embed_dim, "]");
  }

  absl::Status CheckQuery() {
    const auto wanted = [this] { return QueryShape(); };
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor query, Tensor(Role::kQuery, kQueryRanks, kFloatTypes, wanted));
    query_shape_ = query.shape;
    if (query.shape.back() != config().embed_dim) {
      return Invalid(FieldOf(Role::kQuery), ".shape: got ", ToString(query.shape), ", wanted ", QueryShape());
    }
    query_layout_ = LayoutOf(AllButLast(query.shape), RaggedSequences());
    HEADLIGHT_ASSIGN_OR_RETURN(
        input().q_lens, SequenceLengths("seq_lens", FieldOf(Role::kQuery), fields_.seq_lens, query_layout_));
    input().q_tokens = Sum(input().q_lens);
    input().query = RowsOf(std::move(query), query_layout_, input().q_tokens);
    return absl::OkStatus();
  }

  int64_t RaggedSequences() const { return std::max<int64_t>(std::ssize(fields_.seq_lens), 1); }

  // Their shape and lengths; the ids themselves are read last.
  absl::Status CheckTokenIds() {
    HEADLIGHT_ASSIGN_OR_RETURN(
        token_ids_, Tensor(Role::kTokenIds, kIdRanks, kIdTypes, [] { return std::string(kIdsShape); }));
    query_shape_ = token_ids_.shape;
    query_shape_.push_back(config().embed_dim);
    query_layout_ = LayoutOf(token_ids_.shape, RaggedSequences());
    HEADLIGHT_ASSIGN_OR_RETURN(input().q_lens, SequenceLengths("seq_lens", FieldOf(Role::kTokenIds),
                                                               fields_.seq_lens, query_layout_));
    input().q_tokens = Sum(input().q_lens);
    return absl::OkStatus();
  }

  // That the position table reaches to the end of every sequence.
  absl::Status CheckLengths() const {
    if (!model().embedding) return absl::OkStatus();
    const int64_t max_seq_len = model().embedding->max_seq_len();
    const std::vector<int64_t>& lens = checked_.input.q_lens;
    for (size_t i = 0; i < lens.size(); ++i) {
      if (lens[i] <= max_seq_len) continue;
      return Invalid(FieldOf(Role::kTokenIds), ": got ", lens[i], " tokens in sequence ", i,
                     ", wanted at most the model's max_seq_len ", max_seq_len);
    }
    return absl::OkStatus();
  }

  // Reads the ids, once everything else has been checked.
  absl::Status ReadTokenIds() {
    if (!model().embedding) return absl::OkStatus();
    const EmbeddingConfig& embedding = *model().embedding;
    input().kind = InputKind::kTokenIds;
    HEADLIGHT_RETURN_IF_ERROR(Ids(Role::kTokenIds, token_ids_, embedding.vocab_size, input().token_ids));
    if (!Has(Role::kTokenTypes)) return absl::OkStatus();
    const char* const field = FieldOf(Role::kTokenTypes);
    if (embedding.num_token_types == 0) {
      return Invalid(field, ": got some, wanted none: the model knows no types");
    }
    const auto wanted = [this] {
      return absl::StrCat(ToString(token_ids_.shape), ", the shape of ", names().token_ids);
    };
    const size_t rank = token_ids_.shape.size();
    HEADLIGHT_ASSIGN_OR_RETURN(const WireTensor types,
                               Tensor(Role::kTokenTypes, {&rank, 1}, kIdTypes, wanted));
    if (types.shape != token_ids_.shape) {
      return Invalid(field, ".shape: got ", ToString(types.shape), ", wanted ", wanted());
    }
    return Ids(Role::kTokenTypes, types, embedding.num_token_types, input().token_types);
  }

  absl::Status Ids(Role role, const WireTensor& tensor, int64_t limit, std::vector<int32_t>& ids) {
    if (fields_.tensor(role)->payload == nullptr) return absl::OkStatus();
    HEADLIGHT_ASSIGN_OR_RETURN(ids, ReadIds(FieldOf(role), tensor, query_layout_, input().q_lens, limit));
    return absl::OkStatus();
  }

  absl::Status CheckKeyAndValue() {
    kv_layout_ = query_layout_;
    if (!Has(Role::kKey)) {
      if (!fields_.kv_seq_lens.empty()) {
        return Invalid("kv_seq_lens: got ", fields_.kv_seq_lens.size(), " without key, wanted none");
      }
      input().kind = InputKind::kSelf;
      input().kv_lens = input().q_lens;
      input().kv_tokens = input().q_tokens;
      return CheckSelfWidths();
    }
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor key, Source(Role::kKey, config().kdim));
    kv_layout_ = LayoutOf(AllButLast(key.shape), query_layout_.num_sequences);
    HEADLIGHT_ASSIGN_OR_RETURN(input().kv_lens, SequenceLengths("kv_seq_lens", FieldOf(Role::kKey),
                                                                fields_.kv_seq_lens, kv_layout_));
    input().kv_tokens = Sum(input().kv_lens);
    input().kind = InputKind::kSharedKey;
    if (Has(Role::kValue)) {
      HEADLIGHT_ASSIGN_OR_RETURN(WireTensor value, Source(Role::kValue, config().vdim));
      if (!std::equal(key.shape.begin(), key.shape.end() - 1, value.shape.begin(), value.shape.end() - 1)) {
        return Invalid(FieldOf(Role::kValue), ".shape: got ", ToString(value.shape),
                       ", wanted the leading dimensions of key ", ToString(key.shape));
      }
      input().kind = InputKind::kKeyAndValue;
      input().value = RowsOf(std::move(value), kv_layout_, input().kv_tokens);
    } else if (config().vdim != config().kdim) {
      return Invalid("value: got none, wanted one: the model's vdim ", config().vdim, " is not its kdim ",
                     config().kdim);
    }
    input().key = RowsOf(std::move(key), kv_layout_, input().kv_tokens);
    return absl::OkStatus();
  }

  absl::Status CheckSelfWidths() const {
    if (config().kdim == config().embed_dim && config().vdim == config().embed_dim) return absl::OkStatus();
    return Invalid("key: got none, wanted one: the model's kdim ", config().kdim, " and vdim ", config().vdim,
                   " are not both its embed_dim ", config().embed_dim);
  }

  // key or value: of query's rank and batch.
  absl::StatusOr<WireTensor> Source(Role role, int64_t width) const {
    const size_t rank = query_shape_.size();
    const bool dense = rank == 3;
    const auto wanted = [&] {
      return dense ? absl::StrCat("[", query_shape_[0], ", kv_len, ", width, "]")
                   : absl::StrCat("[kv_tokens, ", width, "]");
    };
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor tensor, Tensor(role, {&rank, 1}, kFloatTypes, wanted));
    if (tensor.shape.back() != width || (dense && tensor.shape[0] != query_shape_[0])) {
      return Invalid(FieldOf(role), ".shape: got ", ToString(tensor.shape), ", wanted ", wanted());
    }
    return tensor;
  }

  // Padded lengths in the dense form, longest ones in the ragged form.
  int64_t MaxQueryLen() const { return MaxLen(query_layout_, checked_.input.q_lens); }
  int64_t MaxKvLen() const { return MaxLen(kv_layout_, checked_.input.kv_lens); }

  absl::Status CheckMask() {
    if (!Has(Role::kMask)) return absl::OkStatus();
    const int64_t batch = query_layout_.num_sequences;
    const int64_t heads = model().LayersAgreeOnHeads() ? model().LayerBlock(0).attention.num_heads : 1;
    const auto wanted = [&] {
      return absl::StrCat("[", batch, " or 1, ", heads, " or 1, ", MaxQueryLen(), ", ", MaxKvLen(),
                          "] (batch, num_heads, q_len, kv_len)");
    };
    HEADLIGHT_ASSIGN_OR_RETURN(WireTensor mask, Tensor(Role::kMask, kMaskRanks, kMaskTypes, wanted));
    const Shape& shape = mask.shape;
    if ((shape[0] != 1 && shape[0] != batch) || (shape[1] != 1 && shape[1] != heads) ||
        shape[2] != MaxQueryLen() || shape[3] != MaxKvLen()) {
      return Invalid(FieldOf(Role::kMask), ".shape: got ", ToString(shape), ", wanted ", wanted());
    }
    input().mask = {std::move(mask.bytes), mask.dtype, shape[0], shape[1], shape[2], shape[3]};
    return absl::OkStatus();
  }

  // What the reply will hold, and whether it may.
  absl::Status PlanReply() {
    ReplyPlan& reply = checked_.reply;
    reply.dtype = input().output_dtype;
    if (!input().outputs.empty()) {
      const bool padded = input().q_tokens != query_layout_.rows;
      if (padded) reply.padded_len = query_layout_.padded_len;
      if (reply.padded_len != 0) reply.q_lens = input().q_lens;
      HEADLIGHT_RETURN_IF_ERROR(PlanOutputs(fields_, query_layout_, query_shape_, input(), reply));
    } else if (!input().pools()) {
      reply.output = query_shape_;
      // Full sequences lie packed in either form.
      if (input().q_tokens != query_layout_.rows) reply.padded_len = query_layout_.padded_len;
      if (reply.padded_len != 0) reply.q_lens = input().q_lens;
    } else {
      reply.output = {query_layout_.num_sequences, input().pooled_dim};
    }
    WeightsRequest& weights = input().weights;
    const int64_t layer = weights.layers.empty() ? 0 : weights.layers.front();
    HEADLIGHT_ASSIGN_OR_RETURN(WeightsShapes shapes,
                               PlanWeights(model().LayerBlock(layer).attention, query_layout_.num_sequences,
                                           MaxQueryLen(), MaxKvLen(), names(), weights));
    reply.weights = std::move(shapes.weights);
    reply.weights_keys = std::move(shapes.keys);
    reply.received_mass = std::move(shapes.received_mass);
    std::vector<ReplyTensor> tensors = {{"output", reply.output, reply.dtype},
                                        {"weights", reply.weights, reply.dtype},
                                        {"weights_keys", reply.weights_keys, DType::kI32},
                                        {"received_mass", reply.received_mass, reply.dtype}};
    for (int64_t copy = 1; copy < fields_.output_copies; ++copy) tensors.push_back(tensors[0]);
    AddTensors(reply.outputs, tensors);
    HEADLIGHT_RETURN_IF_ERROR(CheckReplySize(tensors, max_message_bytes_));
    for (const ReplyTensor& tensor : tensors) reply.payload_bytes += *tensor.SizeBytes();
    weights.num_weights = *tensors[1].SizeBytes() / SizeOf(reply.dtype);
    weights.num_keys = *tensors[2].SizeBytes() / SizeOf(DType::kI32);
    weights.num_received = *tensors[3].SizeBytes() / SizeOf(reply.dtype);
    return absl::OkStatus();
  }

  const RequestFields& fields_;
  const int64_t max_message_bytes_;
  CheckedRequest checked_;
  Shape query_shape_;     // of the hidden states, where the model begins at ids
  WireTensor token_ids_;  // empty unless it does
  SequenceLayout query_layout_;
  SequenceLayout kv_layout_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const LoadedModel>> FindModel(const RequestFields& fields,
                                                             const ModelView& models) {
  if (fields.model.empty()) return Invalid(fields.names->model, ": got none, wanted a model's name");
  return models.Naming({fields.names->model}).Find(fields.model, fields.model_version);
}

absl::StatusOr<CheckedRequest> CheckRequest(const RequestFields& fields, const RequestLimits& limits) {
  HEADLIGHT_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedModel> model, FindModel(fields, limits.models));
  return CheckRequestTo(std::move(model), fields, limits.max_message_bytes);
}

absl::StatusOr<CheckedRequest> CheckRequestTo(std::shared_ptr<const LoadedModel> model,
                                              const RequestFields& fields, int64_t max_message_bytes) {
  return RequestChecker(std::move(model), fields, max_message_bytes).Check();
}

}  // namespace headlight
