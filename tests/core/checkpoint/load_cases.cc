// SPDX-License-Identifier: Apache-2.0
#include "tests/core/checkpoint/load_cases.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/uniform_source.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/model/model.h"
#include "core/model/precision_error.h"
#include "tests/core/checkpoint/as_dtype.h"

namespace headlight::testing {
namespace {

LoadCase Native(const std::string& name, const ModelConfig& config, DType dtype) {
  return {name, [=](const std::string& folder) -> absl::Status {
            const ModelConfig resolved = config.Resolved();
            HEADLIGHT_RETURN_IF_ERROR(SaveModelFolder(folder, resolved, RandomModelParameters(resolved, 1)));
            return dtype == DType::kF32 ? absl::OkStatus() : RewriteAs(dtype, folder);
          }};
}

// Its table of words is in the file twice, as the head that is tied to it too.
absl::Status WriteGpt2(const std::string& folder) {
  constexpr int64_t kWidth = 384, kLayers = 12, kWords = 30000;
  std::map<std::string, Shape> shapes = {{"transformer.wte.weight", {kWords, kWidth}},
                                         {"lm_head.weight", {kWords, kWidth}},
                                         {"transformer.wpe.weight", {512, kWidth}},
                                         {"transformer.ln_f.weight", {kWidth}},
                                         {"transformer.ln_f.bias", {kWidth}}};
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = absl::StrCat("transformer.h.", i, ".");
    const auto conv = [&](const std::string& name, int64_t in, int64_t out) {
      shapes[layer + name + ".weight"] = {in, out};
      shapes[layer + name + ".bias"] = {out};
    };
    conv("attn.c_attn", kWidth, 3 * kWidth);
    conv("attn.c_proj", kWidth, kWidth);
    conv("mlp.c_fc", kWidth, 4 * kWidth);
    conv("mlp.c_proj", 4 * kWidth, kWidth);
    for (const char* norm : {"ln_1", "ln_2"}) {
      for (const char* part : {".weight", ".bias"}) shapes[layer + norm + part] = {kWidth};
    }
  }
  const std::vector<float> numbers = UniformSource(3).Draw(kWords * kWidth, 0.05f);
  std::map<std::string, TensorToWrite> tensors;
  for (const auto& [name, shape] : shapes) tensors[name] = {shape, numbers.data()};
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json")
      << absl::StrCat(R"({"model_type": "gpt2", "n_embd": )", kWidth, R"(, "n_head": 12, "n_layer": )",
                      kLayers, R"(, "vocab_size": )", kWords, R"(, "n_positions": 512})");
  HEADLIGHT_RETURN_IF_ERROR(WriteSafetensors(folder + "/model.safetensors", tensors));
  return RewriteAs(DType::kF16, folder);
}

}  // namespace

std::vector<LoadCase> LoadCases() {
  ModelConfig encoder;
  encoder.block.attention = {.embed_dim = 384, .num_heads = 12};
  encoder.block.norm_placement = NormPlacement::kPost;
  encoder.block.feed_forward.hidden_dim = 1536;
  encoder.num_layers = 12;
  encoder.embedding = {.vocab_size = 8000, .num_positions = 128, .norm = true};

  ModelConfig gated = encoder;  // one wide layer
  gated.block.attention = {.embed_dim = 1024, .num_heads = 16, .num_kv_heads = 4};
  gated.block.norm_placement = NormPlacement::kPre;
  gated.block.norm_kind = NormKind::kRmsNorm;
  gated.block.feed_forward = {.hidden_dim = 2816, .activation = Activation::kSilu, .gated = true};
  gated.num_layers = 1;

  ModelConfig many_words = encoder;
  many_words.embedding = {.vocab_size = 120000, .num_positions = 128, .norm = true};
  many_words.num_layers = 1;

  ModelConfig odd = encoder;  // as TinyBERT is: no width is whole cache lines of operands
  odd.block.attention = {.embed_dim = 312, .num_heads = 12};
  odd.block.feed_forward.hidden_dim = 1200;
  odd.embedding->vocab_size = 30522;

  ModelConfig narrow = encoder;
  narrow.block.attention = {.embed_dim = 65, .num_heads = 5};
  narrow.block.feed_forward.hidden_dim = 1300;
  narrow.num_layers = 100;

  ModelConfig bare;
  bare.block.attention = {.embed_dim = 2560, .num_heads = 16};
  return {Native("12 layers", encoder, DType::kF32),
          Native("1 gated layer", gated, DType::kBf16),
          Native("many words in f32", many_words, DType::kF32),
          Native("many words in bf16", many_words, DType::kBf16),
          Native("312 wide", odd, DType::kBf16),
          Native("65 wide", narrow, DType::kBf16),
          Native("attention alone", bare, DType::kF32),
          {"tied head", WriteGpt2}};
}

MemoryEstimate EstimateOf(const std::string& folder, Precision precision) {
  const auto summary = InspectModelFolder(folder);
  if (!summary.ok()) return {};
  ModelConfig config = summary->config;
  config.SetPrecision(precision);
  return EstimateMemory(config, summary->table_dtype);
}

absl::Status Load(const std::string& folder, Precision precision) {
  HEADLIGHT_ASSIGN_OR_RETURN(const auto opened, ModelFolder::Open(folder));
  ModelConfig config = opened->summary().config;
  config.SetPrecision(precision);
  HEADLIGHT_ASSIGN_OR_RETURN(const Model model, Model::Create(config, *opened));
  return MeasurePrecisionError(model, *opened).status();
}

}  // namespace headlight::testing
