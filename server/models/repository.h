// SPDX-License-Identifier: Apache-2.0
//
// A folder of models: which there are, in which versions, and whether their files have changed. Reads names
// and facts of files, never their contents.
#ifndef HEADLIGHT_SERVER_MODELS_REPOSITORY_H_
#define HEADLIGHT_SERVER_MODELS_REPOSITORY_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace headlight {

// One version of a model on disk.
struct RepositoryVersion {
  std::string version;
  std::string folder;  // holds config.json and *.safetensors, or should
  // Name, size, time of change and inode of every file that LoadModelFolder may read, as text: config.json,
  // *.safetensors, the index of shards, modules.json and the config.json of folders below, such as
  // 1_Pooling/. Two equal ones mean the same files, untouched; a replaced file differs even if its size and
  // time do not.
  std::string signature;

  bool operator==(const RepositoryVersion& other) const = default;
};

struct RepositoryScan {
  std::map<std::string, std::vector<RepositoryVersion>> models;  // by name; oldest version first, never empty
  // Folders that are no models, and why: "notes: neither config.json nor a version's folder".
  std::vector<std::pair<std::string, std::string>> skipped;
};

// Looks through `root`: `root`/NAME/ with config.json or *.safetensors in it is version "1" of NAME,
// `root`/NAME/NUMBER/ is version NUMBER (0 or a number without leading zeros), also beside the former; of two
// versions "1" the numbered folder counts. A NAME consists of letters, digits, '.', '_' and '-', at most 128
// of them. Files and hidden folders (".NAME", which is where to prepare one before renaming it) are passed
// over in silence. Links are followed. NOT_FOUND or PERMISSION_DENIED: `root` cannot be read.
// INVALID_ARGUMENT: `root` is itself the folder of a model.
absl::StatusOr<RepositoryScan> ScanRepository(const std::string& root);

// Adds the folders of single models, by name, to what was found. A folder holds what `root`/NAME/ would; it
// takes the place of a model of that name in the repository, which `skipped` tells, as it tells of folders
// without a model.
void AddModelFolders(const std::map<std::string, std::string>& folders, RepositoryScan& scan);

// Whether a model may have that name.
bool IsModelName(const std::string& text);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_REPOSITORY_H_
