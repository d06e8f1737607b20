// SPDX-License-Identifier: Apache-2.0
#include "server/oip/classification.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace headlight {
namespace {

// The texts of a BYTES tensor.
std::vector<std::string> TextsOf(const std::string& bytes) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < bytes.size();) {
    uint32_t size = 0;
    std::memcpy(&size, bytes.data() + at, sizeof(size));
    at += sizeof(size);
    texts.push_back(bytes.substr(at, size));
    at += size;
  }
  return texts;
}

using Texts = std::vector<std::string>;

TEST(ClassificationTest, TheLargestComeFirstWithTheirPlaces) {
  const std::vector<float> scores = {0.25f, -1.0f, 3.5f, 7.0f, 7.0f, 6.0f};
  EXPECT_EQ(TextsOf(ClassesOf(scores, 3, 2, {})),
            (Texts{"3.500000:2", "0.250000:0", "7.000000:0", "7.000000:1"}));
}

TEST(ClassificationTest, LabelsFollowWhereThereAreAny) {
  const std::vector<float> scores = {1.0f, 2.0f};
  const std::vector<std::string> labels = {"no", "yes"};
  EXPECT_EQ(TextsOf(ClassesOf(scores, 2, 2, labels)), (Texts{"2.000000:1:yes", "1.000000:0:no"}));
}

TEST(ClassificationTest, WhatIsNoNumberComesLast) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> scores = {nan, 1.0f, nan, -std::numeric_limits<float>::infinity()};
  const Texts texts = TextsOf(ClassesOf(scores, 4, 4, {}));
  EXPECT_EQ(texts[0], "1.000000:1");
  EXPECT_EQ(texts[1], "-inf:3");
  EXPECT_EQ(texts[2].substr(texts[2].find(':')), ":0");
  EXPECT_EQ(texts[3].substr(texts[3].find(':')), ":2");
}

}  // namespace
}  // namespace headlight
