// SPDX-License-Identifier: Apache-2.0
#include "server/oip/infer_request.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/oip/mask_lengths.h"
#include "server/oip/near_name.h"
#include "server/oip/oip_datatypes.h"
#include "server/oip/oip_names.h"
#include "server/oip/parameters.h"
#include "server/oip/typed_contents.h"
#include "server/request/token_ids.h"

namespace headlight {
namespace {

// As many numbers as an AttendRequest has room for.
constexpr int64_t kMaxListed = int64_t{1} << 20;

// More than any tensor has: what is wrong with a shape is told with all of it.
constexpr int kMaxDims = 8;

// Told apart by where they lie: every input's name is one of these.
constexpr char kSeqLens[] = "seq_lens";
constexpr char kKvSeqLens[] = "kv_seq_lens";
constexpr char kPositions[] = "positions";
constexpr char kAttentionMask[] = "attention_mask";

constexpr const char* kInputNames[] = {"query",          "key",    "value",    kAttentionMask, "input_ids",
                                       "token_type_ids", kSeqLens, kKvSeqLens, kPositions};
// Of those, the tensors of the model; the others are lists of numbers.
constexpr Role kInputRoles[] = {Role::kQuery, Role::kKey,      Role::kValue,
                                Role::kMask,  Role::kTokenIds, Role::kTokenTypes};

constexpr DType kMaskNumbers[] = {DType::kI64, DType::kI32, DType::kBool};

template <typename... Parts>
absl::Status WrongInput(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::string TheseInputs(std::span<const char* const> names) { return absl::StrJoin(names, ", "); }

// Tokenizers' masks have a row for each sequence; others are tensors of the model.
bool IsLengthsMask(const char* name, std::span<const int64_t> shape) {
  return name == kAttentionMask && shape.size() == 2;
}

bool IsList(const char* name, std::span<const int64_t> shape) {
  return name == kSeqLens || name == kKvSeqLens || name == kPositions || IsLengthsMask(name, shape);
}

// What is wrong with the place of a tensor, which messages about places do not name.
absl::Status OfTensor(const std::string& name, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(name, ".", std::string(status.message())));
}

// Of an input that is no list.
Role RoleOf(const char* name) {
  return kInputRoles[std::find(std::begin(kInputNames), std::end(kInputNames), name) -
                     std::begin(kInputNames)];
}

}  // namespace

const ByteSegments* InferRequest::Input::payload() const {
  if (raw != nullptr) return raw;
  return contents != nullptr || place ? &bytes : nullptr;
}

InferRequest::InferRequest(ParsedInfer parsed, const InferMemory& memory)
    : parsed_(std::move(parsed)), memory_(memory) {
  fields.names = &kOipNames;
  fields.request_id = parsed_.request.id();
  unreadable = Read();
}

absl::Status InferRequest::Read() {
  fields.model = parsed_.request.model_name();
  fields.model_version = parsed_.request.model_version();
  HEADLIGHT_RETURN_IF_ERROR(ReadInputs());
  return ReadOutputs();
}

absl::Status InferRequest::ReadInputs() {
  const int count = parsed_.request.inputs_size();
  inputs_.resize(count);
  size_t num_raw = 0;  // that the request should have
  for (int i = 0; i < count; ++i) HEADLIGHT_RETURN_IF_ERROR(ReadInput(i, num_raw));
  return MeetPayloads(num_raw);
}

absl::Status InferRequest::ReadInput(size_t index, size_t& num_raw) {
  const auto& described = parsed_.request.inputs(static_cast<int>(index));
  Input& input = inputs_[index];
  const auto named = std::find_if(std::begin(kInputNames), std::end(kInputNames),
                                  [&](const char* name) { return described.name() == name; });
  if (named == std::end(kInputNames)) {
    if (described.name().empty()) {
      return WrongInput("inputs[", index, "].name: got none, wanted one of ", TheseInputs(kInputNames));
    }
    return WrongInput("inputs[", index, "].name: got ", Quoted(described.name()), ", which is no input",
                      InsteadOf(described.name(), kInputNames));
  }
  if (Find(*named) != nullptr) {
    return WrongInput("inputs[", index, "].name: got ", *named, " again, wanted each input once");
  }
  input.name = *named;
  input.dtype = FromDatatype(described.datatype());
  input.shape = {described.shape().data(), static_cast<size_t>(described.shape_size())};
  if (described.shape_size() > kMaxDims) {
    return WrongInput(input.name, ".shape: got ", described.shape_size(), " dimensions, wanted at most ",
                      kMaxDims);
  }
  if (!described.parameters().empty()) {
    TensorParameters parameters;
    HEADLIGHT_RETURN_IF_ERROR(
        ReadInputParameters(absl::StrCat("inputs[", index, "]"), described.parameters(), parameters));
    input.place = std::move(parameters.place);
  }
  const bool typed = parsed_.contents[index].has_value();
  if (typed && input.place) {
    return WrongInput("inputs[", index, "].contents: got some beside shared_memory_region, wanted none");
  }
  if (typed && !parsed_.raw.empty()) {
    return WrongInput("inputs[", index,
                      "].contents: got some beside raw_input_contents, wanted all inputs raw "
                      "or none");
  }
  if (typed) {
    input.contents = &*parsed_.contents[index];
  } else if (!input.place) {
    if (num_raw < parsed_.raw.size()) input.raw = &parsed_.raw[num_raw];
    ++num_raw;
  }
  return absl::OkStatus();
}

absl::Status InferRequest::MeetPayloads(size_t num_raw) {
  if (parsed_.raw.size() != num_raw) {
    std::vector<const char*> names;
    for (const Input& input : inputs_) {
      if (input.contents == nullptr && !input.place) names.push_back(input.name);
    }
    fields.payloads = WrongInput("raw_input_contents: got ", parsed_.raw.size(), ", wanted ", num_raw, " (",
                                 TheseInputs(names), ")");
  }
  for (const Input& input : inputs_) {
    if (IsList(input.name, input.shape)) continue;
    fields.tensor(RoleOf(input.name)) = NamedTensor{input.name, input.dtype, input.shape, input.payload()};
  }
  return absl::OkStatus();
}

absl::Status InferRequest::ReadOutputs() {
  RequestParameters parameters;
  HEADLIGHT_RETURN_IF_ERROR(ReadParameters(parsed_.request.parameters(), parameters));
  HEADLIGHT_ASSIGN_OR_RETURN(OutputsAsked asked, ChooseOutputs(parsed_.request.outputs(), parameters));
  heads_ = std::move(parameters.heads);
  layers_ = std::move(parameters.layers);
  fields.causal = parameters.causal;
  fields.window_left = parameters.window_left;
  fields.window_right = parameters.window_right;
  fields.weights = {.mode = asked.weights,
                    .top_k = parameters.weights_top_k,
                    .heads = heads_,
                    .query_begin = parameters.query_begin,
                    .query_end = parameters.query_end,
                    .layer = parameters.layer,
                    .layers = layers_,
                    .grid_rows = parameters.grid_rows,
                    .grid_cols = parameters.grid_cols};
  fields.pooling = asked.pooling;
  fields.dimensions = asked.dimensions;
  fields.output_copies = asked.copies;
  fields.outputs = std::move(asked.outputs);
  fields.output_dtype = std::move(parameters.output_dtype);
  fields.timeout_us = parameters.timeout_us;
  fields.priority = parameters.priority;
  tensors_ = std::move(asked.tensors);
  const bool takes_positions = std::any_of(
      fields.outputs.begin(), fields.outputs.end(),
      [](const OutputFields& output) { return output.of_head || output.kind == OutputKind::kTokenLogits; });
  if (Find(kPositions) != nullptr && !takes_positions) {
    return WrongInput("positions: got some, but none of the outputs is token_logits or logits");
  }
  return absl::OkStatus();
}

absl::Status InferRequest::Fetch(const std::string& tenant) {
  tenant_ = tenant;
  for (const AskedTensor& tensor : tensors_) {
    if (!tensor.place) continue;
    if (memory_.regions == nullptr) return NoTensorRegions();
    HEADLIGHT_RETURN_IF_ERROR(OfTensor(tensor.name, memory_.regions->Check(tenant, *tensor.place)));
  }
  for (Input& input : inputs_) {
    if (input.raw == nullptr) HEADLIGHT_RETURN_IF_ERROR(FetchBytes(input));
  }
  return fields.payloads.ok() ? ReadLists() : absl::OkStatus();
}

void InferRequest::LetGo() {
  fields.tensors = {};
  owned_.clear();
}

absl::Status InferRequest::FetchBytes(Input& input) {
  if (input.place) {
    if (memory_.regions == nullptr) return NoTensorRegions();
    // Before it is read, which may be much more than the tensor has: a wrong size takes no memory.
    // The check of the request refuses these.
    if (!input.dtype.dtype || !NumElements(input.shape)) return absl::OkStatus();
    HEADLIGHT_RETURN_IF_ERROR(CheckSize(input));
    absl::StatusOr<TensorBytes> read = memory_.regions->Read(tenant_, *input.place);
    if (!read.ok()) return OfTensor(input.name, read.status());
    input.bytes.Append(read->bytes());
    owned_.push_back(std::move(read->owner));
    return absl::OkStatus();
  }
  return input.contents != nullptr ? Decode(input) : absl::OkStatus();
}

absl::Status InferRequest::CheckSize(const Input& input) {
  const std::optional<int64_t> elements = NumElements(input.shape);
  const DType dtype = *input.dtype.dtype;
  const uint64_t got = input.place->byte_size;
  if (got % SizeOf(dtype) == 0 && got / SizeOf(dtype) == static_cast<uint64_t>(*elements))
    return absl::OkStatus();
  return WrongInput(input.name, ".shared_memory_byte_size: got ", got, ", wanted ", *elements, " times ",
                    SizeOf(dtype), " for ", DatatypeOf(dtype), " ", ToString(input.shape));
}

absl::Status InferRequest::Decode(Input& input) {
  if (!input.dtype.dtype) return absl::OkStatus();  // the check of the request refuses it
  const DType dtype = *input.dtype.dtype;
  const std::string field = absl::StrCat(input.name, ".contents");
  HEADLIGHT_ASSIGN_OR_RETURN(TypedContents found, FindContents(field, *input.contents, dtype));
  const std::optional<int64_t> wanted = NumElements(input.shape);
  if (wanted && *wanted != found.num_elements) {
    return WrongInput(field, ": got ", found.num_elements, " elements, wanted ", *wanted, " for ",
                      DatatypeOf(dtype), " ", ToString(input.shape));
  }
  if (!wanted || *wanted == 0) return absl::OkStatus();  // the same
  if (found.in_place) {
    input.bytes = std::move(found.packed);
    return absl::OkStatus();
  }
  const int64_t size_bytes = found.num_elements * SizeOf(dtype);
  HEADLIGHT_ASSIGN_OR_RETURN(std::byte* const to, Own(size_bytes));
  DecodeContents(*input.contents, dtype, to);
  input.bytes.Append({to, static_cast<size_t>(size_bytes)});
  return absl::OkStatus();
}

absl::StatusOr<std::byte*> InferRequest::Own(int64_t size_bytes) {
  std::shared_ptr<PooledBuffer> buffer = memory_.pool->Acquire(size_bytes);
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("memory is short: ", size_bytes, " bytes of decoded contents do not fit"));
  }
  buffer->Relabel(MemoryKind::kMessage);
  std::byte* const bytes = buffer->bytes();
  owned_.push_back(std::move(buffer));
  return bytes;
}

absl::Status InferRequest::ReadLists() {
  const Input* mask = nullptr;
  for (const Input& input : inputs_) {
    if (!IsList(input.name, input.shape)) continue;
    if (input.name == kAttentionMask) {
      mask = &input;
      continue;
    }
    // Where inputs have a batch, as those of clients do that count on one, a length is a row of one number.
    static constexpr size_t kRanks[] = {1, 2};
    const char* const each = input.name == kPositions ? "[positions]" : "[batch]";
    const TensorRule rule = {kRanks, kIdTypes, [&] { return std::string(each); }};
    HEADLIGHT_ASSIGN_OR_RETURN(
        const WireTensor tensor,
        CheckTensor({input.name, input.dtype, input.shape, input.payload()}, rule, kOipNames.tensors));
    if (tensor.shape.size() == 2 && tensor.shape[1] != 1) {
      return WrongInput(input.name, ".shape: got ", ToString(input.shape), ", wanted ", each);
    }
    if (tensor.shape[0] > kMaxListed) {
      return WrongInput(input.name, ": got ", tensor.shape[0], " numbers, wanted at most ", kMaxListed);
    }
    std::vector<int64_t>& list = input.name == kSeqLens     ? seq_lens_
                                 : input.name == kKvSeqLens ? kv_seq_lens_
                                                            : positions_;
    list = NumbersOf(tensor);
  }
  if (mask != nullptr) HEADLIGHT_RETURN_IF_ERROR(ReadMask(*mask));
  fields.seq_lens = seq_lens_;
  fields.kv_seq_lens = kv_seq_lens_;
  for (OutputFields& output : fields.outputs) {
    if (output.of_head || output.kind == OutputKind::kTokenLogits) output.positions = positions_;
  }
  return absl::OkStatus();
}

absl::Status InferRequest::ReadMask(const Input& mask) {
  // It is of what is attended to: of the keys, where they are not the queries.
  const bool of_keys = fields.tensor(Role::kKey).has_value();
  std::vector<int64_t>& lens = of_keys ? kv_seq_lens_ : seq_lens_;
  if (!lens.empty()) {
    return WrongInput(mask.name, ": got one beside ", of_keys ? kKvSeqLens : kSeqLens,
                      ", wanted one of them: both say which tokens are real");
  }
  const Role role = of_keys ? Role::kKey : fields.tensor(Role::kTokenIds) ? Role::kTokenIds : Role::kQuery;
  const std::optional<NamedTensor>& masked = fields.tensor(role);
  if (!masked) return absl::OkStatus();  // the check of the request refuses that
  const size_t rank = role == Role::kTokenIds ? 2 : 3;
  if (masked->shape.size() != rank) {
    return WrongInput(mask.name, ": got one of ", ToString(mask.shape), ", wanted none beside ",
                      masked->field, " ", ToString(masked->shape),
                      ", which has no padding: seq_lens tells its sequences apart");
  }
  const auto wanted = [&] {
    return absl::StrCat(ToString(masked->shape.first(2)), ", as ", masked->field,
                        " has, for padding on the right");
  };
  static constexpr size_t kRank = 2;
  HEADLIGHT_ASSIGN_OR_RETURN(const WireTensor tensor,
                             CheckTensor({mask.name, mask.dtype, mask.shape, mask.payload()},
                                         {{&kRank, 1}, kMaskNumbers, wanted}, kOipNames.tensors));
  if (!std::equal(mask.shape.begin(), mask.shape.end(), masked->shape.begin())) {
    return WrongInput(mask.name, ".shape: got ", ToString(mask.shape), ", wanted ", wanted());
  }
  if (tensor.shape[0] > kMaxListed) {
    return WrongInput(mask.name, ": got ", tensor.shape[0], " sequences, wanted at most ", kMaxListed);
  }
  HEADLIGHT_ASSIGN_OR_RETURN(lens, LengthsOfMask(mask.name, tensor));
  return absl::OkStatus();
}

const InferRequest::Input* InferRequest::Find(const char* name) const {
  const auto found =
      std::find_if(inputs_.begin(), inputs_.end(), [&](const Input& input) { return input.name == name; });
  return found == inputs_.end() ? nullptr : &*found;
}

}  // namespace headlight
