// SPDX-License-Identifier: Apache-2.0
//
// safetensors files and folders that must be refused, and what the refusal must say.
#ifndef HEADLIGHT_TESTS_CORE_CHECKPOINT_CORRUPT_FILES_H_
#define HEADLIGHT_TESTS_CORE_CHECKPOINT_CORRUPT_FILES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace headlight::testing {

// A file of the format: the header's length, the header, the data.
std::string SafetensorsBytes(const std::string& json, const std::string& data);
// The same with a length that need not be true.
std::string SafetensorsBytes(uint64_t header_bytes, const std::string& json, const std::string& data);

struct CorruptFile {
  std::string name;  // of the case
  std::string bytes;
  std::vector<std::string> message_parts;
};
std::vector<CorruptFile> CorruptFiles();

struct CorruptFolder {
  std::string name;                          // of the case
  std::map<std::string, std::string> files;  // name -> bytes
  absl::StatusCode code;
  std::vector<std::string> message_parts;
};
std::vector<CorruptFolder> CorruptFolders();

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_CHECKPOINT_CORRUPT_FILES_H_
