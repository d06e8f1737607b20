// SPDX-License-Identifier: Apache-2.0
#include "server/oip/parameters.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/oip/near_name.h"
#include "server/oip/oip_datatypes.h"

namespace headlight {
namespace {

using inference::InferParameter;
using Mode = WeightsSink::Mode;

template <typename... Parts>
absl::Status WrongParameter(const std::string& name, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", parts...));
}

const char* KindOf(const InferParameter& value) {
  switch (value.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return "a bool";
    case InferParameter::kInt64Param:
      return "an int64";
    case InferParameter::kStringParam:
      return "a string";
    case InferParameter::kDoubleParam:
      return "a double";
    case InferParameter::kUint64Param:
      return "a uint64";
    case InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return "no value";
}

absl::Status WrongKind(const std::string& name, const InferParameter& value, const char* wanted) {
  return WrongParameter(name, "got ", KindOf(value), ", wanted ", wanted);
}

absl::Status Take(const std::string& name, const InferParameter& value, bool& to) {
  if (value.parameter_choice_case() != InferParameter::kBoolParam) return WrongKind(name, value, "a bool");
  to = value.bool_param();
  return absl::OkStatus();
}

// Of either integer type: clients send unsigned numbers where they know them to be such.
absl::Status Take(const std::string& name, const InferParameter& value, int64_t& to) {
  switch (value.parameter_choice_case()) {
    case InferParameter::kInt64Param:
      to = value.int64_param();
      return absl::OkStatus();
    case InferParameter::kUint64Param:
      if (value.uint64_param() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return WrongParameter(name, "got ", value.uint64_param(), ", wanted less than 2^63");
      }
      to = static_cast<int64_t>(value.uint64_param());
      return absl::OkStatus();
    default:
      return WrongKind(name, value, "an int64");
  }
}

absl::Status Take(const std::string& name, const InferParameter& value, std::optional<int64_t>& to) {
  int64_t number = 0;
  HEADLIGHT_RETURN_IF_ERROR(Take(name, value, number));
  to = number;
  return absl::OkStatus();
}

absl::Status Take(const std::string& name, const InferParameter& value, std::string& to) {
  if (value.parameter_choice_case() != InferParameter::kStringParam)
    return WrongKind(name, value, "a string");
  to = value.string_param();
  return absl::OkStatus();
}

// One of `names`: its place among them.
absl::Status TakeWord(const std::string& name, const InferParameter& value,
                      std::span<const char* const> names, size_t& place) {
  std::string word;
  HEADLIGHT_RETURN_IF_ERROR(Take(name, value, word));
  const auto found = std::find(names.begin(), names.end(), word);
  if (found == names.end()) return WrongParameter(name, "got ", Quoted(word), InsteadOf(word, names));
  place = found - names.begin();
  return absl::OkStatus();
}

// A number, or several as one text: parameters know no lists.
absl::Status TakeNumbers(const std::string& name, const InferParameter& value, std::vector<int64_t>& to) {
  if (value.parameter_choice_case() != InferParameter::kStringParam) {
    int64_t number = 0;
    if (!Take(name, value, number).ok())
      return WrongKind(name, value, "numbers in a string, such as \"0,3\"");
    to = {number};
    return absl::OkStatus();
  }
  for (const absl::string_view part : absl::StrSplit(value.string_param(), ',')) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(part, &number)) {
      return WrongParameter(name, "got ", Quoted(value.string_param()), ", wanted numbers, such as \"0,3\"");
    }
    to.push_back(number);
  }
  return absl::OkStatus();
}

absl::Status TakeMode(const std::string& name, const InferParameter& value, std::optional<Mode>& to) {
  static constexpr const char* kNames[] = {"none", "full", "mean", "top_k", "summary", "grid"};
  static constexpr Mode kModes[] = {Mode::kNone, Mode::kFull,    Mode::kMean,
                                    Mode::kTopK, Mode::kSummary, Mode::kGrid};
  size_t place = 0;
  HEADLIGHT_RETURN_IF_ERROR(TakeWord(name, value, kNames, place));
  to = kModes[place];
  return absl::OkStatus();
}

absl::Status TakePooling(const std::string& name, const InferParameter& value, PoolingAsked& to) {
  static constexpr const char* kNames[] = {"none", "model",         "cls",           "mean",
                                           "max",  "mean_sqrt_len", "weighted_mean", "last"};
  static constexpr Pooling kModes[] = {Pooling::kCls,         Pooling::kMean,         Pooling::kMax,
                                       Pooling::kMeanSqrtLen, Pooling::kWeightedMean, Pooling::kLast};
  static_assert(std::size(kNames) == std::size(kModes) + 2);
  size_t place = 0;
  HEADLIGHT_RETURN_IF_ERROR(TakeWord(name, value, kNames, place));
  to = {};
  to.of_model = place == 1;
  if (place >= 2) to.mode = kModes[place - 2];
  return absl::OkStatus();
}

absl::Status TakeVectorsDtype(const std::string& name, const InferParameter& value, RequestParameters& to) {
  static constexpr const char* kNames[] = {"FP32", "BF16", "FP16", "INT8", "UINT8"};
  size_t place = 0;
  HEADLIGHT_RETURN_IF_ERROR(TakeWord(name, value, kNames, place));
  if (place == 3) to.vectors_encoding = OutputEncoding::kInt8;
  if (place == 4) to.vectors_encoding = OutputEncoding::kBits;
  if (place < 3) to.vectors_dtype = FromDatatype(kNames[place]);
  return absl::OkStatus();
}

absl::Status TakePriority(const std::string& name, const InferParameter& value, int64_t& to) {
  int64_t level = 0;
  HEADLIGHT_RETURN_IF_ERROR(Take(name, value, level));
  if (level < 0 || level > kPriorityLevels) {
    return WrongParameter(name, "got ", level, ", wanted 1 (first) to ", kPriorityLevels,
                          ", or 0 for the usual ", kDefaultPriorityLevel);
  }
  to = level == 0 ? 0 : kDefaultPriorityLevel - level;
  return absl::OkStatus();
}

// Clients that know sequences send the parameters of a request that belongs to none as well.
absl::Status RefuseSequence(const std::string& name, const InferParameter& value) {
  const bool none = !value.bool_param() && value.int64_param() == 0 && value.uint64_param() == 0 &&
                    value.string_param().empty() && value.double_param() == 0;
  if (none) return absl::OkStatus();
  return WrongParameter(name, "got one, wanted none: this server keeps nothing between requests");
}

absl::Status IgnoreBool(const std::string& name, const InferParameter& value) {
  bool ignored = false;
  return Take(name, value, ignored);
}

template <typename To>
struct KnownParameter {
  const char* name;
  absl::Status (*read)(const std::string& name, const InferParameter& value, To& to);
};

// What clients send that talk HTTP as well, where it says how bytes travel. Here they are raw anyway.
template <typename To>
constexpr KnownParameter<To> kIgnored[] = {
    {"binary_data",
     [](const std::string& name, const InferParameter& value, To&) { return IgnoreBool(name, value); }},
    {"binary_data_output",
     [](const std::string& name, const InferParameter& value, To&) { return IgnoreBool(name, value); }},
    {"binary_data_size", [](const std::string& name, const InferParameter& value, To&) {
       int64_t ignored = 0;
       return Take(name, value, ignored);
     }}};

#define HEADLIGHT_TAKE(expression) \
  [](const std::string& name, const InferParameter& value, RequestParameters& to) { return expression; }

constexpr KnownParameter<RequestParameters> kOfRequest[] = {
    {"timeout", HEADLIGHT_TAKE(Take(name, value, to.timeout_us))},
    {"priority", HEADLIGHT_TAKE(TakePriority(name, value, to.priority))},
    {"causal", HEADLIGHT_TAKE(Take(name, value, to.causal))},
    {"window_left", HEADLIGHT_TAKE(Take(name, value, to.window_left))},
    {"window_right", HEADLIGHT_TAKE(Take(name, value, to.window_right))},
    {"weights", HEADLIGHT_TAKE(TakeMode(name, value, to.weights))},
    {"weights_top_k", HEADLIGHT_TAKE(Take(name, value, to.weights_top_k))},
    {"heads", HEADLIGHT_TAKE(TakeNumbers(name, value, to.heads))},
    {"layer", HEADLIGHT_TAKE(Take(name, value, to.layer))},
    {"layers", HEADLIGHT_TAKE(TakeNumbers(name, value, to.layers))},
    {"grid_rows", HEADLIGHT_TAKE(Take(name, value, to.grid_rows))},
    {"grid_cols", HEADLIGHT_TAKE(Take(name, value, to.grid_cols))},
    {"query_begin", HEADLIGHT_TAKE(Take(name, value, to.query_begin))},
    {"query_end", HEADLIGHT_TAKE(Take(name, value, to.query_end))},
    {"pooling", HEADLIGHT_TAKE(TakePooling(name, value, to.pooling))},
    {"dimensions", HEADLIGHT_TAKE(Take(name, value, to.dimensions))},
    {"output_dtype",
     [](const std::string& name, const InferParameter& value, RequestParameters& to) {
       std::string datatype;
       HEADLIGHT_RETURN_IF_ERROR(Take(name, value, datatype));
       to.output_dtype = FromDatatype(datatype);
       return absl::OkStatus();
     }},
    {"vectors_dtype", HEADLIGHT_TAKE(TakeVectorsDtype(name, value, to))},
    {"sparse_top_k", HEADLIGHT_TAKE(Take(name, value, to.sparse_top_k))},
    // Whether a stream's last reply may be an empty one. A request has one reply here, which is its last.
    {"triton_enable_empty_final_response", [](const std::string& name, const InferParameter& value,
                                              RequestParameters&) { return IgnoreBool(name, value); }},
    {"sequence_id", [](const std::string& name, const InferParameter& value,
                       RequestParameters&) { return RefuseSequence(name, value); }},
    {"sequence_start", [](const std::string& name, const InferParameter& value,
                          RequestParameters&) { return RefuseSequence(name, value); }},
    {"sequence_end", [](const std::string& name, const InferParameter& value,
                        RequestParameters&) { return RefuseSequence(name, value); }},
};
#undef HEADLIGHT_TAKE

// While it is read; then a place, or none.
struct TensorDraft {
  std::optional<std::string> region;
  std::optional<int64_t> byte_size;
  std::optional<int64_t> offset;
  int64_t classes = 0;
};

constexpr KnownParameter<TensorDraft> kOfInput[] = {
    {"shared_memory_region", [](const std::string& name, const InferParameter& value,
                                TensorDraft& to) { return Take(name, value, to.region.emplace()); }},
    {"shared_memory_byte_size", [](const std::string& name, const InferParameter& value,
                                   TensorDraft& to) { return Take(name, value, to.byte_size); }},
    {"shared_memory_offset", [](const std::string& name, const InferParameter& value,
                                TensorDraft& to) { return Take(name, value, to.offset); }},
};
constexpr KnownParameter<TensorDraft> kOfOutput[] = {
    kOfInput[0],
    kOfInput[1],
    kOfInput[2],
    {"classification", [](const std::string& name, const InferParameter& value, TensorDraft& to) {
       HEADLIGHT_RETURN_IF_ERROR(Take(name, value, to.classes));
       if (to.classes >= 0) return absl::OkStatus();
       return WrongParameter(name, "got ", to.classes, ", wanted at least 0");
     }}};

template <typename To>
absl::Status ReadParameter(const std::string& prefix, const std::string& name, const InferParameter& value,
                           std::span<const KnownParameter<To>> known, To& to) {
  for (const KnownParameter<To>& parameter : known) {
    if (name == parameter.name) return parameter.read(prefix + name, value, to);
  }
  for (const KnownParameter<To>& parameter : kIgnored<To>) {
    if (name == parameter.name) return parameter.read(prefix + name, value, to);
  }
  std::vector<const char*> names;
  for (const KnownParameter<To>& parameter : known) names.push_back(parameter.name);
  return absl::InvalidArgumentError(absl::StrCat(prefix, "parameters: got ", Quoted(name),
                                                 ", which is none of them", InsteadOf(name, names)));
}

absl::Status ReadTensorParameters(const std::string& field, const ParameterMap& map,
                                  std::span<const KnownParameter<TensorDraft>> known,
                                  TensorParameters& parameters) {
  if (map.empty()) return absl::OkStatus();
  TensorDraft draft;
  const std::string prefix = field + ".";
  for (const auto& [name, value] : map) {
    HEADLIGHT_RETURN_IF_ERROR(ReadParameter(prefix, name, value, known, draft));
  }
  parameters.classes = draft.classes;
  if (!draft.region) {
    if (!draft.byte_size && !draft.offset) return absl::OkStatus();
    return WrongParameter(prefix + "shared_memory_region", "got none beside ",
                          draft.byte_size ? "shared_memory_byte_size" : "shared_memory_offset",
                          ", wanted one");
  }
  if (!draft.byte_size) {
    return WrongParameter(prefix + "shared_memory_byte_size",
                          "got none beside shared_memory_region, wanted one");
  }
  for (const auto& [name, number] : {std::pair("shared_memory_byte_size", *draft.byte_size),
                                     std::pair("shared_memory_offset", draft.offset.value_or(0))}) {
    if (number < 0) return WrongParameter(prefix + name, "got ", number, ", wanted at least 0");
  }
  parameters.place = TensorPlace{*draft.region, static_cast<uint64_t>(draft.offset.value_or(0)),
                                 static_cast<uint64_t>(*draft.byte_size)};
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadParameters(const ParameterMap& map, RequestParameters& parameters) {
  const std::span<const KnownParameter<RequestParameters>> known = kOfRequest;
  for (const auto& [name, value] : map) {
    HEADLIGHT_RETURN_IF_ERROR(ReadParameter(std::string(), name, value, known, parameters));
  }
  return absl::OkStatus();
}

absl::Status ReadInputParameters(const std::string& field, const ParameterMap& map,
                                 TensorParameters& parameters) {
  return ReadTensorParameters(field, map, kOfInput, parameters);
}

absl::Status ReadOutputParameters(const std::string& field, const ParameterMap& map,
                                  TensorParameters& parameters) {
  return ReadTensorParameters(field, map, kOfOutput, parameters);
}

}  // namespace headlight
