// SPDX-License-Identifier: Apache-2.0
//
// Messages to the server that are requests, nearly requests, and what chance makes of them: none may end the
// process, in any build; the sanitizers' builds watch the memory.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/fuzz/answer_attend.h"

namespace headlight::testing {
namespace {

std::vector<std::string> Corpus() {
  std::vector<std::string> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(HEADLIGHT_FUZZ_CORPUS "/attend")) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

bool Answer(const std::string& bytes) { return AnswerAttend(std::as_bytes(std::span(bytes))); }

// `bytes` with one to four places changed: a bit, a byte, a stretch left out or doubled, or the end of
// another message.
std::string Mutated(std::string bytes, const std::vector<std::string>& corpus, std::mt19937& twister) {
  const auto below = [&twister](size_t limit) { return limit == 0 ? 0 : twister() % limit; };
  for (size_t changes = 1 + below(4); changes > 0; --changes) {
    const size_t at = below(bytes.size());
    const size_t length = below(std::min<size_t>(bytes.size() - at, 16));
    switch (below(5)) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, length));
        break;
      default: {
        const std::string& other = corpus[below(corpus.size())];
        bytes = bytes.substr(0, at) + other.substr(below(other.size()));
      }
    }
  }
  return bytes;
}

TEST(AttendCorpus, MessagesAreAnsweredOrRefused) {
  int num_answered = 0, num_refused = 0;
  for (const std::string& bytes : Corpus()) ++(Answer(bytes) ? num_answered : num_refused);
  // A corpus that only knows one of the two leads nowhere.
  EXPECT_GE(num_answered, 12);
  EXPECT_GE(num_refused, 8);
}

TEST(AttendCorpus, SoIsWhatChanceMakesOfThem) {
  constexpr int kMutations = 100'000;
  const std::vector<std::string> corpus = Corpus();
  ASSERT_FALSE(corpus.empty());
  google::protobuf::SetLogHandler(nullptr);  // a line for each string that is no UTF-8
  std::mt19937 twister(::testing::UnitTest::GetInstance()->random_seed());
  int num_answered = 0;
  for (int i = 0; i < kMutations; ++i) {
    num_answered += Answer(Mutated(corpus[twister() % corpus.size()], corpus, twister));
  }
  EXPECT_GE(num_answered, kMutations / 100);  // else what is behind the decoder is not reached
}

}  // namespace
}  // namespace headlight::testing
