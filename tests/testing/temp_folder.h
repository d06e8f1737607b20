// SPDX-License-Identifier: Apache-2.0
//
// A folder for the files of one test.
#ifndef HEADLIGHT_TESTS_TESTING_TEMP_FOLDER_H_
#define HEADLIGHT_TESTS_TESTING_TEMP_FOLDER_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace headlight::testing {

// Empty at first; removed with all that is in it.
class TempFolder {
 public:
  TempFolder() : path_(::testing::TempDir() + "/headlight_test.XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "cannot make " << path_;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return std::filesystem::path(path_) / name; }

  // Makes the folders that `name` leads through. Returns the path.
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(File(name)).parent_path());
    std::ofstream(File(name), std::ios::binary) << bytes;
    return File(name);
  }
  std::string Read(const std::string& name) const {
    std::ifstream file(File(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

 private:
  std::string path_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_TEMP_FOLDER_H_
