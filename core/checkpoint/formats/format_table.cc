// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/format.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"
#include "core/model/pooling.h"

namespace headlight {
namespace {

struct NamedReader {
  absl::string_view name;
  FormatReader read;
};

// Values of "layout" in our own config.json.
constexpr NamedReader kOwnFormats[] = {{"native", ReadNative},
                                       {"torch.nn.MultiheadAttention", ReadTorchAttention},
                                       {"torch.nn.TransformerEncoder", ReadTorchEncoder},
                                       {"torch.nn.TransformerEncoderLayer", ReadTorchEncoder}};

// Values of "model_type" in Hugging Face's.
constexpr NamedReader kModelTypes[] = {{"albert", ReadAlbert},
                                       {"bert", ReadBert},
                                       {"camembert", ReadRoberta},
                                       {"deberta", ReadDeberta},
                                       {"deberta-v2", ReadDebertaV2},
                                       {"distilbert", ReadDistilBert},
                                       {"electra", ReadElectra},
                                       {"gemma3_text", ReadGemma3Text},
                                       {"gpt2", ReadGpt2},
                                       {"gpt_neox", ReadGptNeoX},
                                       {"gte", ReadGte},
                                       {"llama", ReadLlama},
                                       {"mistral", ReadMistral},
                                       {"modernbert", ReadModernBert},
                                       {"mpnet", ReadMpnet},
                                       {"new", ReadNew},
                                       {"nomic_bert", ReadNomicBert},
                                       {"olmo2", ReadOlmo2},
                                       {"phi3", ReadPhi3},
                                       {"qwen2", ReadQwen2},
                                       {"qwen3", ReadQwen3},
                                       {"roberta", ReadRoberta},
                                       {"xlm-roberta", ReadRoberta}};

template <size_t n>
std::string NamesOf(const NamedReader (&readers)[n]) {
  std::vector<absl::string_view> names;
  for (const NamedReader& reader : readers) names.push_back(reader.name);
  return absl::StrJoin(names, ", ");
}

// Reads with the reader of that name; a problem of `key` if there is none.
template <size_t n>
Format ReadNamed(ConfigFields& fields, const std::string& key, const NamedReader (&readers)[n],
                 const Shards& checkpoint) {
  const std::string name = fields.String(key);
  for (const NamedReader& reader : readers) {
    if (name != reader.name) continue;
    Format format = reader.read(fields, checkpoint);
    format.name = name;
    return format;
  }
  if (fields.status().ok()) {
    fields.Fail(ConfigFields::Problem::kUnimplemented, key,
                absl::StrCat("got \"", name, "\", served are ", NamesOf(readers)));
  }
  return {};
}

}  // namespace

absl::StatusOr<Format> ReadFormat(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  if (fields.Has("format")) {
    const std::string maker = fields.String("format");
    if (maker != "headlight") {
      fields.Fail(ConfigFields::Problem::kInvalid, "format",
                  absl::StrCat("got \"", maker, "\", wanted \"headlight\""));
      return fields.status();
    }
    format = ReadNamed(fields, "layout", kOwnFormats, checkpoint);
  } else if (fields.Has("model_type")) {
    format = ReadNamed(fields, "model_type", kModelTypes, checkpoint);
    ReadHeadKeys(fields, format);
    AccountForCommonKeys(fields, format.knows_code);
    format.config.pooling.clear();
    format.config.no_pooling =
        "no file says how; give the server --pooling MODEL=mean, or write \"headlight\": {\"pooling\": "
        "\"mean\"} "
        "into config.json, or another of " +
        PoolingNames();
    format.says_pooling = ReadOwnKeys(fields, format.config);
    format.not_understood = fields.UnknownKeys();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "wanted \"format\": \"headlight\" with a \"layout\" (", NamesOf(kOwnFormats),
        "), or a Hugging Face config with a \"model_type\" (", NamesOf(kModelTypes), "); neither is there"));
  }
  HEADLIGHT_RETURN_IF_ERROR(fields.status());
  format.assumed = fields.Assumed();
  return format;
}

void WantLinear(const std::string& name, int64_t in, int64_t out, bool bias, std::vector<float>& weight,
                std::vector<float>& bias_vector, TensorPlan& plan) {
  plan.wanted.push_back({.names = {name + ".weight"},
                         .shape = {out, in},
                         .parts = {{&weight}},
                         .orientation = Orientation::kOutIn});
  if (bias) WantAsIs(name + ".bias", {out}, bias_vector, plan);
}

void WantFusedLinear(const std::string& name, int64_t in, bool bias,
                     std::initializer_list<FusedLinear> layers, TensorPlan& plan) {
  WantedTensor weight = {.names = {name + ".weight"}, .orientation = Orientation::kOutIn};
  WantedTensor biases = {.names = {name + ".bias"}};
  int64_t out = 0;
  for (const FusedLinear& layer : layers) {
    weight.parts.push_back({.destination = layer.weight, .begin = out, .size = layer.out});
    biases.parts.push_back({.destination = layer.bias, .begin = out, .size = layer.out});
    out += layer.out;
  }
  weight.shape = {out, in};
  biases.shape = {out};
  plan.wanted.push_back(std::move(weight));
  if (bias) plan.wanted.push_back(std::move(biases));
}

void WantNorm(const std::string& name, int64_t width, bool bias, NormParameters& norm, TensorPlan& plan) {
  plan.wanted.push_back(
      {.names = {name + ".weight", name + ".gamma"}, .shape = {width}, .parts = {{&norm.gain}}});
  if (!bias) return;
  plan.wanted.push_back(
      {.names = {name + ".bias", name + ".beta"}, .shape = {width}, .parts = {{&norm.bias}}});
}

void WantAsIs(const std::string& name, Shape shape, std::vector<float>& destination, TensorPlan& plan) {
  plan.wanted.push_back({.names = {name}, .shape = std::move(shape), .parts = {{&destination}}});
}

}  // namespace headlight
