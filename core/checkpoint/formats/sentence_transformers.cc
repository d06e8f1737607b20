// SPDX-License-Identifier: Apache-2.0
//
// Folders of sentence-transformers: modules.json lists what comes after the encoder.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/bounded_json.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using nlohmann::json;

absl::Status ApplyPooling(const std::string& folder, const std::string& path, ModelConfig& config) {
  const std::string file = path.empty() ? "config.json" : absl::StrCat(path, "/config.json");
  HEADLIGHT_ASSIGN_OR_RETURN(ConfigFields fields, ConfigFields::Read(absl::StrCat(folder, "/", file)));
  // Newer versions name the mode, older ones have a switch for each.
  std::vector<std::string> modes;
  if (fields.Has("pooling_mode")) modes.push_back(fields.String("pooling_mode"));
  for (const char* mode : {"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens",
                           "weightedmean_tokens", "lasttoken"}) {
    if (fields.Bool(absl::StrCat("pooling_mode_", mode), false)) modes.emplace_back(mode);
  }
  if (absl::Status status = fields.status(); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", status.message()));
  }
  const std::string mode = absl::StrJoin(modes, " and ");
  if (mode == "cls" || mode == "cls_token") {
    config.pooling = Pooling::kCls;
  } else if (mode == "mean" || mode == "mean_tokens") {
    config.pooling = Pooling::kMean;
  } else {
    return absl::UnimplementedError(
        absl::StrCat(file, ": got pooling \"", mode, "\", served are cls and mean"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSentenceTransformers(const std::string& folder, ModelConfig& config) {
  const absl::StatusOr<json> modules = ReadJsonFile(absl::StrCat(folder, "/modules.json"), {});
  if (absl::IsNotFound(modules.status())) {
    // Without the list, a pooling module in its usual place.
    const absl::Status status = ApplyPooling(folder, "1_Pooling", config);
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  }
  HEADLIGHT_RETURN_IF_ERROR(modules.status());
  if (!modules->is_array()) return absl::InvalidArgumentError("modules.json: wanted a JSON array of modules");
  for (const json& module : *modules) {
    const auto member = [&](const char* key) {
      const auto found = module.is_object() ? module.find(key) : module.end();
      return found != module.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    const std::string type = member("type");
    const std::string kind = type.substr(type.rfind('.') + 1);
    if (kind == "Transformer") continue;
    if (kind == "Normalize") {
      config.normalize_pooled = true;
    } else if (kind == "Pooling") {
      const std::string path = member("path");
      if (absl::StrContains(path, "..") || absl::StartsWith(path, "/")) {
        return absl::InvalidArgumentError("modules.json: the path of Pooling leaves the folder");
      }
      HEADLIGHT_RETURN_IF_ERROR(ApplyPooling(folder, path, config));
    } else {
      return absl::UnimplementedError(absl::StrCat("modules.json: got module type \"", type,
                                                   "\", served are Transformer, Pooling, Normalize"));
    }
  }
  return absl::OkStatus();
}

}  // namespace headlight
