// SPDX-License-Identifier: Apache-2.0
#include "server/models/repository.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"
#include "server/models/version_order.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNameBytes = 128;
constexpr char kNameRule[] = "a model's name has at most 128 letters, digits, '.', '_' and '-'";
constexpr char kNoModel[] = "neither config.json nor a version's folder such as 1/ is in it";
constexpr int kMaxDepth = 2;              // of folders in a version's, below which no module is looked for
constexpr size_t kMaxVersionDigits = 18;  // fits int64

bool IsVersion(const std::string& text) {
  return !text.empty() && text.size() <= kMaxVersionDigits && (text == "0" || text[0] != '0') &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// The files that make a model. A folder without any of them is none. sentence-transformers' list of modules may
// name the folder that has the others.
bool IsModelFile(const std::string& name) {
  return name == "config.json" || name == "modules.json" || absl::EndsWith(name, ".safetensors") ||
         absl::EndsWith(name, ".safetensors.index.json");
}

// What is read beside them.
bool IsReadToo(const std::string& name) {
  return name == "adapter_config.json" || name == "sentence_bert_config.json" ||
         name == "config_sentence_transformers.json";
}

// What is in `folder`, by name; folders that vanish meanwhile are empty.
std::vector<std::string> NamesIn(const fs::path& folder, std::error_code& error) {
  std::vector<std::string> names;
  fs::directory_iterator entry(folder, error);
  if (error) return names;
  for (; entry != fs::directory_iterator(); entry.increment(error)) {
    if (error) break;
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool IsFolder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool IsAnyModelFile(const std::string& name) { return name[0] != '.' && IsModelFile(name); }

// `name` under `folder` and what would change with its contents.
std::string FactsOf(const fs::path& folder, const std::string& name) {
  struct stat facts;
  if (stat((folder / name).c_str(), &facts) != 0) {
    return absl::StrCat(name, ":absent");  // a link whose target is not there yet
  }
  return absl::StrCat(name, ":", static_cast<int64_t>(facts.st_size), ":",
                      static_cast<int64_t>(facts.st_mtim.tv_sec), ".",
                      static_cast<int64_t>(facts.st_mtim.tv_nsec), ":", static_cast<uint64_t>(facts.st_dev),
                      ":", static_cast<uint64_t>(facts.st_ino));
}

// Adds what is read in the folders of `folder`/`below`: modules.json may name any of them.
void AddModules(const fs::path& folder, const std::string& below, int depth,
                std::vector<std::string>& parts) {
  std::error_code ignored;
  for (const std::string& name : NamesIn(folder / below, ignored)) {
    const std::string path = below.empty() ? name : absl::StrCat(below, "/", name);
    if (!below.empty() && (IsAnyModelFile(name) || IsReadToo(name))) parts.push_back(FactsOf(folder, path));
    const bool is_version = below.empty() && IsVersion(name);
    if (name[0] != '.' && !is_version && depth < kMaxDepth && IsFolder(folder / path)) {
      AddModules(folder, path, depth + 1, parts);
    }
  }
}

// Empty if none of the names is that of a model's file.
std::string SignatureOf(const fs::path& folder, const std::vector<std::string>& names) {
  if (std::none_of(names.begin(), names.end(), IsAnyModelFile)) return "";
  std::vector<std::string> parts;
  for (const std::string& name : names) {
    if (IsAnyModelFile(name) || IsReadToo(name)) parts.push_back(FactsOf(folder, name));
  }
  AddModules(folder, "", 0, parts);
  return absl::StrJoin(parts, "\n");
}

std::vector<RepositoryVersion> VersionsIn(const fs::path& folder) {
  std::error_code ignored;
  const std::vector<std::string> names = NamesIn(folder, ignored);
  std::vector<RepositoryVersion> versions;
  for (const std::string& name : names) {
    if (!IsVersion(name) || !IsFolder(folder / name)) continue;
    const fs::path version = folder / name;
    versions.push_back({name, version.string(), SignatureOf(version, NamesIn(version, ignored))});
  }
  const std::string signature = SignatureOf(folder, names);
  const bool has_first = std::any_of(versions.begin(), versions.end(),
                                     [](const RepositoryVersion& v) { return v.version == "1"; });
  if (!signature.empty() && !has_first) versions.push_back({"1", folder.string(), signature});
  std::sort(versions.begin(), versions.end(), [](const RepositoryVersion& a, const RepositoryVersion& b) {
    return VersionLess()(a.version, b.version);
  });
  return versions;
}

}  // namespace

bool IsModelName(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameBytes && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

absl::StatusOr<RepositoryScan> ScanRepository(const std::string& root) {
  std::error_code error;
  const std::vector<std::string> names = NamesIn(root, error);
  if (error) {
    const std::string message =
        absl::StrCat("--model-repository: cannot read ", Quoted(root), ": ", error.message());
    return error == std::errc::permission_denied ? absl::PermissionDeniedError(message)
                                                 : absl::NotFoundError(message);
  }
  if (std::any_of(names.begin(), names.end(), IsAnyModelFile)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model-repository: ", Quoted(root),
                     " is itself a model; name its parent, or serve this one alone with --model NAME=DIR"));
  }
  RepositoryScan scan;
  for (const std::string& name : names) {
    const fs::path folder = fs::path(root) / name;
    if (name[0] == '.' || !IsFolder(folder)) continue;
    if (!IsModelName(name)) {
      scan.skipped.emplace_back(Quoted(name), kNameRule);
      continue;
    }
    std::vector<RepositoryVersion> versions = VersionsIn(folder);
    if (versions.empty()) {
      scan.skipped.emplace_back(name, kNoModel);
      continue;
    }
    scan.models.emplace(name, std::move(versions));
  }
  return scan;
}

void AddModelFolders(const std::map<std::string, std::string>& folders, RepositoryScan& scan) {
  for (const auto& [name, folder] : folders) {
    if (!IsModelName(name)) {
      scan.skipped.emplace_back(Quoted(name), kNameRule);
      continue;
    }
    std::vector<RepositoryVersion> versions = VersionsIn(folder);
    if (versions.empty()) {
      scan.skipped.emplace_back(name, absl::StrCat(Quoted(folder), ": ", kNoModel));
      continue;
    }
    const auto [model, is_new] = scan.models.insert_or_assign(name, std::move(versions));
    if (!is_new) {
      scan.skipped.emplace_back(absl::StrCat(name, " of the repository"),
                                "--model names another folder for it");
    }
  }
}

}  // namespace headlight
