// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions as transformers/modeling_rope_utils.py has them.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

constexpr char kOriginal[] = "original_max_position_embeddings";
constexpr int64_t kMaxLen = int64_t{1} << 40;

// Beside the object that is read.
struct Lengths {
  int64_t max_position_embeddings = 0;
  std::optional<int64_t> original;
};

// The length of training: beside the object, else in it, else the model's own.
int64_t OriginalLength(ConfigFields& scaling, const Lengths& lengths) {
  const std::optional<int64_t> inner = scaling.OptionalInt(kOriginal, 1, kMaxLen);
  if (lengths.original && inner && *lengths.original != *inner) {
    scaling.Fail(
        Problem::kInvalid, kOriginal,
        absl::StrCat("got ", *inner, ", and beside the object ", *lengths.original, "; wanted one value"));
  }
  return lengths.original ? *lengths.original
         : inner          ? *inner
                          : scaling.Int(kOriginal, 1, kMaxLen, lengths.max_position_embeddings);
}

double LengthRatio(int64_t original, const Lengths& lengths) {
  return static_cast<double>(lengths.max_position_embeddings) / static_cast<double>(original);
}

void ReadLlama3Scaling(ConfigFields& scaling, const Lengths& lengths, RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.factor = scaling.Number("factor");
  rope.low_freq_factor = scaling.Number("low_freq_factor");
  rope.high_freq_factor = scaling.Number("high_freq_factor");
  rope.original_max_len = OriginalLength(scaling, lengths);
}

// How much YaRN magnifies at a factor.
double YarnMagnitude(double factor, double scale) {
  return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

void ReadYarn(ConfigFields& scaling, const Lengths& lengths, RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::kYarn;
  rope.original_max_len = OriginalLength(scaling, lengths);
  // Null asks for the ratio of lengths.
  rope.factor =
      scaling.IsNull("factor") ? LengthRatio(rope.original_max_len, lengths) : scaling.Number("factor");
  // 0 asks for the default too.
  const double fast = scaling.Number("beta_fast", rope.beta_fast);
  const double slow = scaling.Number("beta_slow", rope.beta_slow);
  if (fast != 0.0) rope.beta_fast = fast;
  if (slow != 0.0) rope.beta_slow = slow;
  // Null is taken for false.
  rope.truncate = !scaling.IsNull("truncate") && scaling.Bool("truncate", true);
  const double scale = scaling.OptionalNumber("mscale").value_or(0.0);
  const double all_dim = scaling.OptionalNumber("mscale_all_dim").value_or(0.0);
  const bool both = scale != 0.0 && all_dim != 0.0;
  const double ratio = both ? YarnMagnitude(rope.factor, scale) / YarnMagnitude(rope.factor, all_dim)
                            : YarnMagnitude(rope.factor, 1.0);
  rope.magnitude = scaling.OptionalNumber("attention_factor").value_or(ratio);
}

// Sequences beyond the length of training take other factors, all of their positions.
void ReadLongRope(ConfigFields& scaling, const Lengths& lengths, RopeConfig& rope) {
  for (const char* key : {"short_factor", "long_factor"}) {
    if (!scaling.Has(key)) scaling.Fail(Problem::kInvalid, key, "missing, wanted an array of numbers");
  }
  const int64_t original = OriginalLength(scaling, lengths);
  rope.scaling = RopeConfig::Scaling::kByPair;
  rope.pair_factors = scaling.Numbers("short_factor");
  if (scaling.Numbers("long_factor") != rope.pair_factors) rope.max_len = original;
  const double factor = scaling.OptionalNumber("factor").value_or(LengthRatio(original, lengths));
  const double magnitude =
      factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(static_cast<double>(original)));
  rope.magnitude = scaling.OptionalNumber("attention_factor").value_or(magnitude);
}

void ReadScaling(ConfigFields& scaling, const Lengths& lengths, bool only_longrope, RopeConfig& rope) {
  const std::string type = scaling.String(scaling.EitherOf("rope_type", "type"), "default");
  if (type == "default") return;
  if (type == "longrope" || (only_longrope && type == "su")) return ReadLongRope(scaling, lengths, rope);
  if (!only_longrope) {
    if (type == "llama3") return ReadLlama3Scaling(scaling, lengths, rope);
    if (type == "yarn") return ReadYarn(scaling, lengths, rope);
    if (type == "linear") {
      rope.scaling = RopeConfig::Scaling::kLinear;
      rope.factor = scaling.Number("factor");
      return;
    }
    if (type == "dynamic") {
      // Longer sequences turn slower, all of their positions, by how long they are.
      scaling.Number("factor");
      rope.max_len = lengths.max_position_embeddings;
      return;
    }
  }
  scaling.Fail(
      Problem::kUnimplemented, "rope_type",
      absl::StrCat("got \"", type, "\", served are ",
                   only_longrope ? "default, longrope" : "default, dynamic, linear, llama3, longrope, yarn"));
}

// How many dimensions of a head turn; 0: all.
int64_t ReadRotaryDim(ConfigFields& fields, ConfigFields& scaling, const RopeOptions& options) {
  if (options.head_dim == 0) {
    fields.Only(options.part_key, {"1", "1.0"});
    scaling.Only(options.part_key, {"1", "1.0"});
    return 0;
  }
  const std::optional<double> inner = scaling.OptionalNumber("partial_rotary_factor");
  const std::optional<double> beside = fields.OptionalNumber(options.part_key);
  const double part = inner ? *inner : beside ? *beside : fields.Number(options.part_key, options.part);
  if (part == 1.0) return 0;
  const double dims = static_cast<double>(options.head_dim) * part;
  if (dims >= 2.0 && dims < static_cast<double>(options.head_dim) && static_cast<int64_t>(dims) % 2 == 0) {
    return static_cast<int64_t>(dims);
  }
  fields.Fail(Problem::kUnimplemented, options.part_key,
              absl::StrCat("got ", part, ", by which ", dims, " of ", options.head_dim,
                           " dimensions turn; wanted an even number of them, at least 2"));
  return 0;
}

RopeConfig ReadRopeObject(ConfigFields& fields, ConfigFields scaling, const RopeOptions& options,
                          const Lengths& lengths) {
  RopeConfig rope;
  // The inner one counts where there are two.
  const std::optional<double> theta = scaling.OptionalNumber("rope_theta");
  const std::optional<double> beside = fields.OptionalNumber(options.theta_key);
  rope.theta = theta ? *theta : beside ? *beside : fields.Number(options.theta_key, options.theta);
  rope.rotary_dim = ReadRotaryDim(fields, scaling, options);
  ReadScaling(scaling, lengths, options.only_longrope, rope);
  return rope;
}

// Whether there is an object of that name that says anything.
bool Says(ConfigFields& fields, const std::string& key) {
  return fields.Has(key) && !fields.Object(key).empty();
}

// transformers 5 takes the older key where it says anything.
void RefuseBothObjects(ConfigFields& fields) {
  if (!Says(fields, "rope_scaling") || !Says(fields, "rope_parameters")) return;
  fields.Fail(Problem::kInvalid, "rope_scaling",
              "got an object, and rope_parameters too, wanted one of them");
}

void RefuseKinds(ConfigFields& scaling) {
  for (const std::string& key : scaling.keys()) {
    if (!scaling.IsObject(key)) continue;
    scaling.Fail(Problem::kUnimplemented, key,
                 "got an object: positions of each kind of layer are not served here");
  }
}

}  // namespace

RopeConfig ReadHuggingFaceRope(ConfigFields& fields, const RopeOptions& options) {
  RefuseBothObjects(fields);
  ConfigFields scaling = fields.Object(Says(fields, "rope_scaling") ? "rope_scaling" : "rope_parameters");
  RefuseKinds(scaling);
  Lengths lengths = {.max_position_embeddings = options.max_position_embeddings,
                     .original = fields.OptionalInt(kOriginal, 1, kMaxLen)};
  if (!lengths.original) lengths.original = options.original_max_position_embeddings;
  return ReadRopeObject(fields, scaling, options, lengths);
}

RopeConfig ReadHuggingFaceRope(ConfigFields& fields, int64_t max_position_embeddings) {
  return ReadHuggingFaceRope(fields, {.max_position_embeddings = max_position_embeddings});
}

RopeConfig ReadLayerRope(ConfigFields& fields, const std::string& kind, bool scaled,
                         const RopeOptions& options) {
  RefuseBothObjects(fields);
  ConfigFields kinds = fields.Object("rope_parameters");
  for (const std::string& key : kinds.keys()) {
    if (key == kFullAttention || key == kSlidingAttention) continue;
    kinds.Fail(Problem::kUnimplemented, key,
               absl::StrCat("got it beside kinds of layers, wanted it in ", kFullAttention, " and ",
                            kSlidingAttention));
    kinds.WithoutEffect({key.c_str()});
  }
  const Lengths lengths = {.max_position_embeddings = options.max_position_embeddings};
  if (!scaled || !Says(fields, "rope_scaling")) {
    ConfigFields scaling = kinds.Object(kind);
    // transformers looks for it beside the kinds.
    scaling.Only("truncate", {"true"});
    return ReadRopeObject(fields, scaling, options, lengths);
  }
  ConfigFields scaling = fields.Object("rope_scaling");
  RefuseKinds(scaling);
  scaling.Only("truncate", {"true"});
  // transformers 5 takes the older name for nothing here, and 4 does not.
  if (scaling.Has("type") && !scaling.Has("rope_type")) {
    scaling.Fail(Problem::kUnimplemented, "type", "got it without rope_type, which is its name; wanted that");
  }
  return ReadRopeObject(fields, scaling, options, lengths);
}

}  // namespace headlight
