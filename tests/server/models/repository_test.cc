// SPDX-License-Identifier: Apache-2.0
#include "server/models/repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

class RepositoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text = "{}") {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  RepositoryScan Scan() {
    const auto scan = ScanRepository(root_.string());
    EXPECT_THAT(scan, IsOk());
    return scan.ok() ? *scan : RepositoryScan();
  }

  // "name/version" of all.
  std::vector<std::string> Found() {
    std::vector<std::string> found;
    for (const auto& [name, versions] : Scan().models) {
      for (const RepositoryVersion& v : versions) found.push_back(name + "/" + v.version);
    }
    return found;
  }

  std::string SignatureOf(const std::string& name) { return Scan().models.at(name).front().signature; }

  fs::path root_;
};

TEST_F(RepositoryTest, AFolderWithAConfigIsVersion1) {
  Write("bert/config.json");
  EXPECT_THAT(Found(), ElementsAre("bert/1"));
  EXPECT_EQ(Scan().models.at("bert").front().folder, (root_ / "bert").string());
}

TEST_F(RepositoryTest, NumberedFoldersAreVersionsOldestFirst) {
  for (const char* version : {"10", "9", "0", "2"}) Write(std::string("bert/") + version + "/config.json");
  EXPECT_THAT(Found(), ElementsAre("bert/0", "bert/2", "bert/9", "bert/10"));
}

TEST_F(RepositoryTest, WhatIsNoNumberIsNoVersion) {
  for (const char* folder : {"1", "01", "-1", "1_Pooling", "v2", "1.5", "99999999999999999999"}) {
    Write(std::string("bert/") + folder + "/config.json");
  }
  Write("bert/7", "a file");
  EXPECT_THAT(Found(), ElementsAre("bert/1"));
}

TEST_F(RepositoryTest, VersionsMayStandBesideFilesOfVersion1) {
  Write("bert/config.json");
  Write("bert/2/config.json");
  EXPECT_THAT(Found(), ElementsAre("bert/1", "bert/2"));
  Write("bert/1/config.json");
  EXPECT_THAT(Found(), ElementsAre("bert/1", "bert/2"));
  EXPECT_EQ(Scan().models.at("bert").front().folder, (root_ / "bert/1").string());
}

TEST_F(RepositoryTest, AnEmptyVersionIsFoundSoThatItsLackIsReported) {
  fs::create_directories(root_ / "bert/1");
  EXPECT_THAT(Found(), ElementsAre("bert/1"));
  EXPECT_EQ(SignatureOf("bert"), "");
}

TEST_F(RepositoryTest, WeightsWithoutAConfigAreFoundToo) {
  Write("bert/model.safetensors");
  EXPECT_THAT(Found(), ElementsAre("bert/1"));
}

TEST_F(RepositoryTest, FilesAndHiddenFoldersArePassedOverInSilence) {
  Write("README.md");
  Write(".next/config.json");
  Write("bert/.3/config.json");
  Write("bert/2/config.json");
  EXPECT_THAT(Found(), ElementsAre("bert/2"));
  EXPECT_THAT(Scan().skipped, IsEmpty());
}

TEST_F(RepositoryTest, OtherFoldersAreSkippedWithAReason) {
  fs::create_directories(root_ / "lost+found");
  fs::create_directories(root_ / "notes/pictures");
  EXPECT_THAT(Found(), IsEmpty());
  const RepositoryScan scan = Scan();
  ASSERT_EQ(scan.skipped.size(), 2u);
  EXPECT_EQ(scan.skipped[0].first, "\"lost+found\"");
  EXPECT_THAT(scan.skipped[0].second, HasSubstr("letters, digits"));
  EXPECT_EQ(scan.skipped[1].first, "notes");
  EXPECT_THAT(scan.skipped[1].second, HasSubstr("neither config.json nor a version's folder"));
}

TEST_F(RepositoryTest, NamesThatCannotTravelAreSkipped) {
  Write(std::string(129, 'a') + "/config.json");
  Write("line\nbreak/config.json");
  Write(std::string(128, 'a') + "/config.json");
  EXPECT_THAT(Found(), ElementsAre(std::string(128, 'a') + "/1"));
  EXPECT_EQ(Scan().skipped.size(), 2u);
}

TEST_F(RepositoryTest, LinksAreFollowed) {
  Write(".store/a/config.json");
  fs::create_directories(root_ / "bert");
  fs::create_directory_symlink(root_ / ".store/a", root_ / "bert/3");
  fs::create_directory_symlink(root_ / "bert", root_ / "alias");
  fs::create_directory_symlink(root_ / "nowhere", root_ / "broken");
  EXPECT_THAT(Found(), ElementsAre("alias/3", "bert/3"));
}

TEST_F(RepositoryTest, SignaturesAreTheSameUntilAFileChanges) {
  Write("bert/config.json");
  Write("bert/model.safetensors", "weights");
  const std::string before = SignatureOf("bert");
  EXPECT_EQ(SignatureOf("bert"), before);
  Write("bert/README.md");
  Write("bert/.config.json.swp");
  EXPECT_EQ(SignatureOf("bert"), before);

  Write("bert/model.safetensors", "weights, more");
  const std::string grown = SignatureOf("bert");
  EXPECT_NE(grown, before);
  Write("bert/model-2.safetensors");
  const std::string more = SignatureOf("bert");
  EXPECT_NE(more, grown);
  fs::remove(root_ / "bert/model-2.safetensors");
  EXPECT_EQ(SignatureOf("bert"), grown);
  Write("bert/model.safetensors.index.json");
  EXPECT_NE(SignatureOf("bert"), grown);
}

TEST_F(RepositoryTest, AFileReplacedByOneOfTheSameSizeAndTimeIsNoticed) {
  Write("bert/config.json", "{1}");
  const std::string before = SignatureOf("bert");
  const auto time = fs::last_write_time(root_ / "bert/config.json");
  Write("bert/.new", "{2}");
  fs::last_write_time(root_ / "bert/.new", time);
  fs::rename(root_ / "bert/.new", root_ / "bert/config.json");
  EXPECT_NE(SignatureOf("bert"), before);
}

TEST_F(RepositoryTest, ALinkThatTurnsElsewhereIsNoticed) {
  Write(".store/a/config.json");
  Write(".store/b/config.json");
  fs::create_directory_symlink(root_ / ".store/a", root_ / "bert");
  const std::string before = SignatureOf("bert");
  fs::remove(root_ / "bert");
  fs::create_directory_symlink(root_ / ".store/b", root_ / "bert");
  EXPECT_NE(SignatureOf("bert"), before);
}

TEST_F(RepositoryTest, WhatPoolingIsReadFromChangesTheSignature) {
  Write("bert/3/config.json");
  const std::string bare = SignatureOf("bert");
  Write("bert/3/modules.json", "[]");
  const std::string listed = SignatureOf("bert");
  EXPECT_NE(listed, bare);
  Write("bert/3/1_Pooling/config.json", "{\"pooling_mode_cls_token\": true}");
  const std::string cls = SignatureOf("bert");
  EXPECT_NE(cls, listed);
  Write("bert/3/1_Pooling/config.json", "{\"pooling_mode_mean_tokens\": true}");
  const std::string mean = SignatureOf("bert");
  EXPECT_NE(mean, cls);
  Write("bert/3/modules/pooling/config.json");
  EXPECT_NE(SignatureOf("bert"), mean);
}

TEST_F(RepositoryTest, TheEncoderMayLieInAFolderOfItsOwn) {
  Write("bert/modules.json", "[]");
  Write("bert/0_Transformer/config.json", "{}");
  Write("bert/0_Transformer/model.safetensors", "1");
  EXPECT_THAT(Found(), ElementsAre("bert/1"));
  const std::string before = SignatureOf("bert");
  Write("bert/0_Transformer/model.safetensors", "22");
  EXPECT_NE(SignatureOf("bert"), before);
}

TEST_F(RepositoryTest, AVersionOfItsOwnIsNoPartOfVersion1BesideIt) {
  Write("bert/config.json");
  const std::string before = SignatureOf("bert");
  Write("bert/2/config.json");
  EXPECT_EQ(SignatureOf("bert"), before);
}

TEST_F(RepositoryTest, AModelsOwnFolderIsNoRepository) {
  Write("config.json");
  Write("1_Pooling/config.json");
  EXPECT_THAT(
      ScanRepository(root_.string()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("is itself a model; name its parent, or serve this one alone with --model")));
}

TEST_F(RepositoryTest, AFolderOfOneModelIsServedUnderAName) {
  Write("all/bert/config.json");
  Write("all/gpt/config.json");
  Write("mine/config.json");
  Write("versions/4/config.json");
  RepositoryScan scan = *ScanRepository((root_ / "all").string());
  AddModelFolders({{"gpt", (root_ / "mine").string()},
                   {"many", (root_ / "versions").string()},
                   {"none", (root_ / "nowhere").string()},
                   {"b/d", (root_ / "mine").string()}},
                  scan);
  ASSERT_EQ(scan.models.size(), 3u);
  EXPECT_EQ(scan.models.at("gpt").front().folder, (root_ / "mine").string());
  EXPECT_EQ(scan.models.at("many").front().version, "4");
  ASSERT_EQ(scan.skipped.size(), 3u);
  EXPECT_EQ(scan.skipped[0].first, "\"b/d\"");
  EXPECT_EQ(scan.skipped[1].first, "gpt of the repository");
  EXPECT_EQ(scan.skipped[2].first, "none");
}

TEST_F(RepositoryTest, AMissingRootIsNamed) {
  EXPECT_THAT(ScanRepository((root_ / "nowhere").string()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("--model-repository: cannot read \"")));
  Write("file");
  EXPECT_THAT(ScanRepository((root_ / "file").string()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("Not a directory")));
}

}  // namespace
}  // namespace headlight
