// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/shards.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/bounded_json.h"

namespace headlight {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kExtension[] = ".safetensors";
// An index has about 100 bytes for each tensor of the model.
constexpr JsonLimits kIndexLimits = {.max_bytes = int64_t{32} << 20, .max_depth = 8, .max_values = 300000};

std::string PathIn(const std::string& folder, const std::string& name) {
  return std::filesystem::path(folder) / name;
}

// Whether `name` is a file of this very folder, whatever the folder is.
bool IsPlainFileName(absl::string_view name) {
  return absl::EndsWith(name, kExtension) && name.size() > sizeof(kExtension) - 1 && name.size() <= 255 &&
         name.find('/') == absl::string_view::npos && name.find('\0') == absl::string_view::npos;
}

using WeightMap = std::map<std::string, std::string>;  // tensor -> file

absl::StatusOr<WeightMap> ReadWeightMap(const std::string& path) {
  HEADLIGHT_ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(path, kIndexLimits));
  const auto member = index.is_object() ? index.find("weight_map") : index.end();
  if (member == index.end() || !member->is_object() || member->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map: got ", member == index.end() ? "none" : member->type_name(),
                     ", wanted an object of at least one tensor's name and its file"));
  }
  WeightMap weight_map;
  for (const auto& [tensor, file] : member->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": weight_map: tensor ", Quoted(tensor), ": got ",
          file.is_string() ? Quoted(file.get_ref<const std::string&>()) : std::string(file.type_name()),
          ", wanted the name of a *", kExtension, " file in the same folder"));
    }
    weight_map.emplace_hint(weight_map.end(), tensor, file.get<std::string>());
  }
  return weight_map;
}

// Heads of a few tensors, which formats/heads.h reads: no part of the model's own files.
bool IsHeadFile(absl::string_view name) {
  return name == "sparse_linear.safetensors" || name == "colbert_linear.safetensors";
}

// The *.safetensors files of a folder, sorted.
absl::StatusOr<std::vector<std::string>> ListFiles(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename();
    if (IsPlainFileName(name) && !IsHeadFile(name)) names.push_back(std::move(name));
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat(folder, ": cannot list the folder"));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

absl::StatusOr<Shards> Shards::Open(const std::string& folder) {
  Shards checkpoint;
  checkpoint.folder_ = folder;
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFiles(folder));
  std::error_code ignored;  // what is not there, or cannot be asked, is not an index
  if (std::binary_search(names.begin(), names.end(), kSingleFile)) {
    HEADLIGHT_RETURN_IF_ERROR(checkpoint.AddFile(kSingleFile));
  } else if (const std::string index = PathIn(folder, kIndex); std::filesystem::exists(index, ignored)) {
    HEADLIGHT_RETURN_IF_ERROR(checkpoint.AddShards(index));
  } else if (names.size() == 1) {
    HEADLIGHT_RETURN_IF_ERROR(checkpoint.AddFile(names[0]));
  } else if (names.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": got no *", kExtension, " file, wanted ", kSingleFile, " or ", kIndex));
  } else {
    const size_t shown = std::min<size_t>(names.size(), 4);
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": got ", names.size(), " files, ", absl::StrJoin(names.begin(), names.begin() + shown, ", "),
        shown < names.size() ? ", ..." : "", ", wanted ", kSingleFile, ", or ", kIndex,
        " to tell how they belong together"));
  }
  checkpoint.AddAliases();
  checkpoint.TakeOffWrappers();
  return checkpoint;
}

absl::StatusOr<Shards> Shards::OpenFile(const std::string& folder, const std::string& name) {
  Shards checkpoint;
  checkpoint.folder_ = folder;
  HEADLIGHT_RETURN_IF_ERROR(checkpoint.AddFile(name));
  checkpoint.AddAliases();
  return checkpoint;
}

absl::Status Shards::AddFile(const std::string& name) {
  HEADLIGHT_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(PathIn(folder_, name)));
  entries_ = file->entries();
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

// Where several files have a tensor, the index decides: newer ones may lie over older ones.
absl::Status Shards::AddShards(const std::string& index) {
  HEADLIGHT_ASSIGN_OR_RETURN(const WeightMap weight_map, ReadWeightMap(index));
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [tensor, name] : weight_map) shards.emplace(name, nullptr);
  std::map<std::string, std::string> file_of;  // of the tensors that the index says nothing of
  for (auto& [name, shard] : shards) {
    absl::StatusOr<std::unique_ptr<const SafetensorsFile>> file =
        SafetensorsFile::Open(PathIn(folder_, name));
    if (absl::IsNotFound(file.status())) {
      return absl::NotFoundError(
          absl::StrCat(index, ": it lists ", Quoted(name), ", and there is no such file"));
    }
    HEADLIGHT_RETURN_IF_ERROR(file.status());
    shard = file->get();
    files_.push_back(*std::move(file));
    for (const auto& [tensor, entry] : shard->entries()) {
      if (weight_map.contains(tensor)) continue;
      const auto [other, is_new] = file_of.emplace(tensor, name);
      if (!is_new) {
        return absl::InvalidArgumentError(absl::StrCat(index, ": weight_map: tensor ", Quoted(tensor),
                                                       ": got it in ", other->second, " and ", name,
                                                       ", wanted the index to say in which"));
      }
      entries_.emplace(tensor, entry);
    }
  }
  for (const auto& [tensor, name] : weight_map) {
    const auto found = shards[name]->entries().find(tensor);
    if (found == shards[name]->entries().end()) {
      const bool elsewhere = std::any_of(shards.begin(), shards.end(), [&](const auto& shard) {
        return shard.second->entries().contains(tensor);
      });
      return absl::InvalidArgumentError(absl::StrCat(index, ": weight_map: tensor ", Quoted(tensor), ": got ",
                                                     Quoted(name), ", which has no such tensor",
                                                     elsewhere ? " (another file has it)" : ""));
    }
    entries_.emplace(tensor, found->second);
  }
  return absl::OkStatus();
}

void Shards::AddAliases() {
  for (const auto& file : files_) {
    for (const auto& [alias, name] : file->metadata()) {
      const auto tensor = file->entries().find(name);
      if (tensor != file->entries().end()) entries_.emplace(alias, tensor->second);
    }
  }
}

void Shards::TakeOffWrappers() {
  for (bool found = true; found && !entries_.empty();) {
    found = false;
    for (const absl::string_view wrapper : {"_orig_mod.", "module."}) {
      if (!std::all_of(entries_.begin(), entries_.end(), [&](const auto& entry) {
            return absl::StartsWith(entry.first, wrapper) && entry.first.size() > wrapper.size();
          })) {
        continue;
      }
      std::map<std::string, SafetensorsEntry> entries;
      for (auto& [name, entry] : entries_) entries.emplace(name.substr(wrapper.size()), std::move(entry));
      entries_ = std::move(entries);
      absl::StrAppend(&wrapper_, wrapper);
      found = true;
    }
  }
}

const SafetensorsEntry* Shards::Find(const std::string& name) const {
  const auto entry = entries_.find(name);
  return entry == entries_.end() ? nullptr : &entry->second;
}

absl::StatusOr<std::vector<float>> Shards::ReadF32(const std::string& name) const {
  const std::string where = absl::StrCat(folder_, ": tensor ", Quoted(name));
  const SafetensorsEntry* const entry = Find(name);
  if (entry == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(where, ": there is none of this name"));
  return headlight::ReadF32(*entry, where);
}

}  // namespace headlight
