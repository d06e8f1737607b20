// SPDX-License-Identifier: Apache-2.0
#include "server/oip/output_names.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/oip/near_name.h"

namespace headlight {
namespace {

using Mode = WeightsSink::Mode;

struct KnownOutput {
  const char* name;
  enum class What : uint8_t { kDefault, kKind, kOfHead, kWeights } what;
  OutputKind kind = OutputKind::kHiddenStates;  // kKind
  ReplyPart part = ReplyPart::kValues;
  Mode mode = Mode::kNone;  // kWeights
};
using What = KnownOutput::What;

constexpr KnownOutput kKnownOutputs[] = {
    {"output", What::kDefault},
    {"last_hidden_state", What::kKind, OutputKind::kHiddenStates},
    {"sentence_embedding", What::kKind, OutputKind::kPooled},
    {"logits", What::kOfHead, OutputKind::kScores},
    {"scores", What::kKind, OutputKind::kScores},
    {"token_scores", What::kKind, OutputKind::kTokenScores},
    {"token_logits", What::kKind, OutputKind::kTokenLogits},
    {"sparse", What::kKind, OutputKind::kSparse},
    {"sparse_indices", What::kKind, OutputKind::kSparse, ReplyPart::kIndices},
    {"sparse_lens", What::kKind, OutputKind::kSparse, ReplyPart::kLens},
    {"token_vectors", What::kKind, OutputKind::kTokenVectors},
    {"token_vectors_lens", What::kKind, OutputKind::kTokenVectors, ReplyPart::kLens},
    {"token_vectors_scale", What::kKind, OutputKind::kTokenVectors, ReplyPart::kScale},
    {"sentence_embedding_scale", What::kKind, OutputKind::kPooled, ReplyPart::kScale},
    {"attention_weights", What::kWeights, {}, ReplyPart::kWeights, Mode::kFull},
    {"attention_weights_mean", What::kWeights, {}, ReplyPart::kWeights, Mode::kMean},
    {"attention_topk_probs", What::kWeights, {}, ReplyPart::kWeights, Mode::kTopK},
    {"attention_topk_indices", What::kWeights, {}, ReplyPart::kWeightsKeys, Mode::kTopK},
    {"head_summary", What::kWeights, {}, ReplyPart::kWeights, Mode::kSummary},
    {"attention_received", What::kWeights, {}, ReplyPart::kReceivedMass, Mode::kSummary},
    {"attention_grid", What::kWeights, {}, ReplyPart::kWeights, Mode::kGrid},
};

const KnownOutput* FindOutput(const std::string& name) {
  const auto found = std::find_if(std::begin(kKnownOutputs), std::end(kKnownOutputs),
                                  [&](const KnownOutput& known) { return name == known.name; });
  return found == std::end(kKnownOutputs) ? nullptr : found;
}

std::string OutputsThereAre(const std::string& wrong) {
  std::vector<const char*> names;
  for (const KnownOutput& known : kKnownOutputs) names.push_back(known.name);
  return InsteadOf(wrong, names);
}

// Of the weights that a mode gives, the name.
const char* NameOfWeights(Mode mode) {
  for (const KnownOutput& known : kKnownOutputs) {
    if (known.what == What::kWeights && known.mode == mode) return known.name;
  }
  return "\"none\"";
}

template <typename... Parts>
absl::Status WrongOutput(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

bool IsVectors(OutputKind kind) { return kind == OutputKind::kPooled || kind == OutputKind::kTokenVectors; }
bool Pools(const PoolingAsked& pooling) { return pooling.of_model || pooling.mode; }

class OutputChooser {
 public:
  explicit OutputChooser(const RequestParameters& parameters) : parameters_(parameters) {}

  absl::Status Add(size_t place, const std::string& name, std::optional<TensorPlace> region,
                   int64_t classes) {
    const KnownOutput* const known = FindOutput(name);
    const std::string field = absl::StrCat("outputs[", place, "].name");
    if (known == nullptr) {
      return WrongOutput(field, ": got ", Quoted(name), ", which is no output", OutputsThereAre(name));
    }
    if (!names_.insert(known->name).second) {
      return WrongOutput(field, ": got ", name, " again, wanted each output once");
    }
    AskedTensor tensor = {name, known->part, 0, std::move(region)};
    if (known->what == What::kWeights) {
      if (classes > 0) {
        return WrongOutput("outputs[", place, "].parameters[\"classification\"]: got one for ", name,
                           ", wanted it for ", NameOfOutput(OutputKind::kScores));
      }
      HEADLIGHT_RETURN_IF_ERROR(Want(field, *known));
    } else {
      tensor.output = PlaceOf(*known, place);
      if (classes > 0) chosen_.outputs[tensor.output].classes = classes;
    }
    chosen_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::StatusOr<OutputsAsked> Finish() && {
    HEADLIGHT_RETURN_IF_ERROR(CheckWeightsParameter());
    if (names_.empty()) AddDefault();
    HEADLIGHT_RETURN_IF_ERROR(CheckVectorParameters());
    HEADLIGHT_RETURN_IF_ERROR(CheckScales());
    AddCompanions();
    CountCopies();
    if (IsOneOutput()) MakeOneOutput();
    return std::move(chosen_);
  }

 private:
  OutputKind KindOfDefault() const {
    return Pools(parameters_.pooling) ? OutputKind::kPooled : OutputKind::kHiddenStates;
  }

  // The place of what `known` names among the outputs, which it joins if it is new.
  size_t PlaceOf(const KnownOutput& known, size_t place) {
    const bool of_head = known.what == What::kOfHead;
    const OutputKind kind = known.what == What::kDefault ? KindOfDefault() : known.kind;
    std::vector<OutputFields>& outputs = chosen_.outputs;
    const auto found = std::find_if(outputs.begin(), outputs.end(), [&](const OutputFields& output) {
      return output.kind == kind && output.of_head == of_head;
    });
    if (found != outputs.end()) return found - outputs.begin();
    OutputFields& output = outputs.emplace_back();
    output.kind = kind;
    output.of_head = of_head;
    output.place = place;
    if (IsVectors(kind)) {
      output.encoding = parameters_.vectors_encoding;
      output.dtype = parameters_.vectors_dtype;
    }
    if (kind == OutputKind::kPooled) {
      output.pooling = parameters_.pooling;
      output.dimensions = parameters_.dimensions;
    }
    if (kind == OutputKind::kSparse) output.top_k = parameters_.sparse_top_k;
    return outputs.size() - 1;
  }

  // One form of the weights in a request.
  absl::Status Want(const std::string& field, const KnownOutput& known) {
    if (chosen_.weights == Mode::kNone) chosen_.weights = known.mode;
    if (chosen_.weights == known.mode) return absl::OkStatus();
    return WrongOutput(field, ": got ", known.name, " beside ", NameOfWeights(chosen_.weights),
                       ", wanted one form of the weights in a request");
  }

  absl::Status CheckWeightsParameter() {
    const std::optional<Mode> said =
        !parameters_.weights && parameters_.weights_top_k != 0 && chosen_.weights == Mode::kNone
            ? Mode::kTopK
            : parameters_.weights;
    if (names_.empty()) {
      chosen_.weights = said.value_or(Mode::kNone);
    } else if (parameters_.weights && *parameters_.weights != chosen_.weights) {
      return WrongOutput(
          "weights: got another form than the outputs that are asked for, wanted it without "
          "those, or the form of ",
          NameOfWeights(chosen_.weights));
    }
    return absl::OkStatus();
  }

  void AddDefault() {
    chosen_.tensors.push_back({"output", ReplyPart::kValues, PlaceOf(kKnownOutputs[0], 0), std::nullopt});
    for (const KnownOutput& known : kKnownOutputs) {
      if (known.what != What::kWeights || known.mode != chosen_.weights) continue;
      chosen_.tensors.push_back({known.name, known.part, 0, std::nullopt});
    }
  }

  bool Has(OutputKind kind) const {
    return std::any_of(chosen_.outputs.begin(), chosen_.outputs.end(),
                       [&](const OutputFields& output) { return output.kind == kind && !output.of_head; });
  }

  // That parameters of outputs have one that they are of.
  absl::Status CheckVectorParameters() const {
    const auto unused = [](const char* parameter, const char* wanted) {
      return WrongOutput(parameter, ": got one, but none of the outputs is ", wanted);
    };
    const bool pooled = Has(OutputKind::kPooled);
    if (Pools(parameters_.pooling) && !pooled) return unused("pooling", "output or sentence_embedding");
    if (parameters_.dimensions != 0 && !pooled && !IsLoneDefault()) {
      return unused("dimensions", "sentence_embedding");
    }
    const bool vectors = parameters_.vectors_dtype || parameters_.vectors_encoding != OutputEncoding::kFloat;
    if (vectors && !pooled && !Has(OutputKind::kTokenVectors)) {
      return unused("vectors_dtype", "sentence_embedding or token_vectors");
    }
    if (parameters_.sparse_top_k != 0 && !Has(OutputKind::kSparse)) return unused("sparse_top_k", "sparse");
    return absl::OkStatus();
  }

  absl::Status CheckScales() const {
    for (const AskedTensor& tensor : chosen_.tensors) {
      if (tensor.part != ReplyPart::kScale) continue;
      if (chosen_.outputs[tensor.output].encoding == OutputEncoding::kInt8) continue;
      return WrongOutput("vectors_dtype: got none of INT8 beside ", tensor.name,
                         ", wanted it: only INT8 vectors have a scale");
    }
    return absl::OkStatus();
  }

  // An output may be asked for by two of its names, and is then sent twice.
  void CountCopies() {
    for (OutputFields& output : chosen_.outputs) output.copies = 0;
    for (const AskedTensor& tensor : chosen_.tensors) {
      if (tensor.part == ReplyPart::kValues) ++chosen_.outputs[tensor.output].copies;
    }
  }

  bool IsLoneDefault() const { return IsOneOutput() && !Has(OutputKind::kPooled); }

  void AddCompanions() {
    std::vector<AskedTensor> all;
    for (AskedTensor& tensor : chosen_.tensors) {
      const bool is_values = tensor.part == ReplyPart::kValues;
      const size_t output = tensor.output;
      const std::string name = tensor.name;
      all.push_back(std::move(tensor));
      if (!is_values || chosen_.outputs[output].of_head) continue;
      const OutputFields& fields = chosen_.outputs[output];
      const auto add = [&](ReplyPart part, const char* suffix) {
        std::string companion = name + suffix;
        if (!names_.contains(companion)) all.push_back({std::move(companion), part, output, std::nullopt});
      };
      if (fields.kind == OutputKind::kSparse) add(ReplyPart::kIndices, "_indices");
      if (fields.encoding == OutputEncoding::kInt8) add(ReplyPart::kScale, "_scale");
      if (fields.kind == OutputKind::kSparse || fields.kind == OutputKind::kTokenVectors) {
        add(ReplyPart::kLens, "_lens");
      }
    }
    chosen_.tensors = std::move(all);
  }

  // Whether it can be BatchResult's own output, which is sent as it was computed.
  bool IsOneOutput() const {
    if (chosen_.outputs.empty()) return true;  // weights alone: it is computed and not sent
    if (chosen_.outputs.size() > 1) return false;
    const OutputFields& output = chosen_.outputs.front();
    const bool fits = output.kind == OutputKind::kHiddenStates || output.kind == OutputKind::kPooled;
    return fits && !output.of_head && output.encoding == OutputEncoding::kFloat && !output.dtype &&
           output.classes == 0;
  }

  void MakeOneOutput() {
    chosen_.dimensions = parameters_.dimensions;
    if (!chosen_.outputs.empty()) chosen_.copies = chosen_.outputs.front().copies;
    if (!chosen_.outputs.empty() && chosen_.outputs.front().kind == OutputKind::kPooled) {
      chosen_.pooling = parameters_.pooling;
      chosen_.pooling.of_model = !chosen_.pooling.mode;
    }
    for (AskedTensor& tensor : chosen_.tensors) {
      if (tensor.part == ReplyPart::kValues) tensor.part = ReplyPart::kOutput;
    }
    chosen_.outputs.clear();
  }

  const RequestParameters& parameters_;
  OutputsAsked chosen_;
  absl::flat_hash_set<absl::string_view> names_;  // of those asked for; those of kKnownOutputs
};

}  // namespace

const char* NameOfOutput(OutputKind kind) {
  for (const KnownOutput& known : kKnownOutputs) {
    if (known.what == What::kKind && known.kind == kind) return known.name;
  }
  return "";
}

absl::StatusOr<OutputsAsked> ChooseOutputs(const OutputList& list, const RequestParameters& parameters) {
  OutputChooser chooser(parameters);
  for (int i = 0; i < list.size(); ++i) {
    TensorParameters of_tensor;
    if (!list[i].parameters().empty()) {
      HEADLIGHT_RETURN_IF_ERROR(
          ReadOutputParameters(absl::StrCat("outputs[", i, "]"), list[i].parameters(), of_tensor));
    }
    HEADLIGHT_RETURN_IF_ERROR(chooser.Add(i, list[i].name(), std::move(of_tensor.place), of_tensor.classes));
  }
  return std::move(chooser).Finish();
}

}  // namespace headlight
