// SPDX-License-Identifier: Apache-2.0
#include "client/record/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/slow_crc32c.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::SlowCrc32c;
using ::headlight::testing::StatusIs;
using ::headlight::testing::TempFolder;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kBegins[] = "headlight recording 1\n";

v1::RecordedExchange ExchangeNamed(const std::string& model) {
  v1::RecordedExchange exchange;
  exchange.mutable_request()->set_model(model);
  exchange.mutable_request()->add_payloads("\x01\x02");
  exchange.mutable_model()->set_precision("f32");
  exchange.add_payloads()->set_field("output");
  return exchange;
}

std::string FrameOf(const std::string& message) {
  std::string frame;
  for (const uint32_t number : {static_cast<uint32_t>(message.size()), SlowCrc32c(message)}) {
    for (int shift = 0; shift < 32; shift += 8) frame.push_back(static_cast<char>(number >> shift));
  }
  return frame;
}

// The models of what can be read, then how it ended: "end", or the error.
std::vector<std::string> ReadAll(const std::string& path) {
  absl::StatusOr<RecordingReader> reader = RecordingReader::Open(path);
  if (!reader.ok()) return {std::string(reader.status().message())};
  std::vector<std::string> models;
  for (;;) {
    const auto exchange = reader->Next();
    if (!exchange.ok()) {
      EXPECT_EQ(exchange.status().code(), absl::StatusCode::kDataLoss);
      models.push_back(std::string(exchange.status().message()));
      return models;
    }
    if (!exchange->has_value()) {
      models.push_back("end");
      return models;
    }
    models.push_back((*exchange)->request().model());
  }
}

class RecordingTest : public ::testing::Test {
 protected:
  // A recording of "a" and "b".
  std::string WriteTwo() {
    const std::string path = folder_.File("two.rec");
    EXPECT_THAT(AppendExchange(ExchangeNamed("a"), path), IsOk());
    EXPECT_THAT(AppendExchange(ExchangeNamed("b"), path), IsOk());
    return path;
  }

  const TempFolder folder_;
};

TEST_F(RecordingTest, ExchangesAreAppendedAndReadInTheirOrder) {
  const std::string path = folder_.File("new.rec");
  EXPECT_EQ(*CountExchanges(path), 0);
  EXPECT_EQ(*AppendExchange(ExchangeNamed("a"), path), 1);
  EXPECT_EQ(*AppendExchange(ExchangeNamed("b"), path), 2);
  EXPECT_EQ(*CountExchanges(path), 2);
  auto reader = RecordingReader::Open(path);
  ASSERT_THAT(reader, IsOk());
  for (const std::string model : {"a", "b"}) {
    const auto exchange = reader->Next();
    ASSERT_THAT(exchange, IsOk());
    ASSERT_TRUE(exchange->has_value());
    EXPECT_EQ((*exchange)->SerializeAsString(), ExchangeNamed(model).SerializeAsString());
  }
  EXPECT_FALSE(reader->Next()->has_value());
}

TEST_F(RecordingTest, ManyMayAppendToANewFileAtOnce) {
  constexpr int kAtOnce = 8, kEach = 20;
  const std::string path = folder_.File("shared.rec");
  std::vector<std::thread> threads;
  for (int i = 0; i < kAtOnce; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) EXPECT_THAT(AppendExchange(ExchangeNamed("a"), path), IsOk());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(*CountExchanges(path), kAtOnce * kEach);
  EXPECT_EQ(ReadAll(path).size(), static_cast<size_t>(kAtOnce * kEach + 1));
}

TEST_F(RecordingTest, TheFileIsAsRecordingProtoSays) {
  const std::string path = WriteTwo();
  std::string wanted = kBegins;
  for (const std::string model : {"a", "b"}) {
    const std::string message = ExchangeNamed(model).SerializeAsString();
    wanted += FrameOf(message) + message;
  }
  EXPECT_EQ(folder_.Read("two.rec"), wanted);
}

TEST_F(RecordingTest, AnEmptyFileBecomesARecordingButNoOtherFile) {
  EXPECT_EQ(*AppendExchange(ExchangeNamed("a"), folder_.Write("empty", "")), 1);
  EXPECT_THAT(ReadAll(folder_.File("empty")), ElementsAre("a", "end"));
  const std::string text = folder_.Write("text", "headlight recordings are what this is about\n");
  EXPECT_THAT(
      AppendExchange(ExchangeNamed("a"), text),
      StatusIs(absl::StatusCode::kInvalidArgument,
               text + ": is no recording: wanted one that begins with the line \"headlight recording 1\""));
  EXPECT_EQ(folder_.Read("text"), "headlight recordings are what this is about\n");
  EXPECT_THAT(AppendExchange(ExchangeNamed("a"), folder_.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, EndsWith(": is no regular file")));
  EXPECT_THAT(
      AppendExchange(ExchangeNamed("a"), folder_.File("no/folder")),
      StatusIs(absl::StatusCode::kUnavailable, EndsWith(": cannot be written: No such file or directory")));
}

TEST_F(RecordingTest, WhetherItCanBeAppendedToIsKnownBefore) {
  EXPECT_THAT(CheckAppendable(folder_.File("new.rec")), IsOk());
  EXPECT_FALSE(std::filesystem::exists(folder_.File("new.rec"))) << "nothing is made";
  EXPECT_THAT(CheckAppendable(WriteTwo()), IsOk());
  EXPECT_EQ(*CountExchanges(folder_.File("two.rec")), 2);
  EXPECT_THAT(CheckAppendable("new-in-the-working-folder.rec"), IsOk());
  EXPECT_THAT(
      CheckAppendable(folder_.File("no/folder")),
      StatusIs(absl::StatusCode::kUnavailable, EndsWith(": cannot be written: No such file or directory")));
  EXPECT_THAT(CheckAppendable(folder_.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, EndsWith(": is no regular file")));
  EXPECT_THAT(CheckAppendable(folder_.Write("text", "some text, no recording\n")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no recording")));
}

TEST_F(RecordingTest, WhatIsNotThereOrShortIsNoRecording) {
  EXPECT_THAT(RecordingReader::Open(folder_.File("none")).status(),
              StatusIs(absl::StatusCode::kNotFound, EndsWith("none: there is no such file")));
  for (size_t size = 0; size < sizeof(kBegins) - 1; ++size) {
    EXPECT_THAT(RecordingReader::Open(folder_.Write("short", std::string(kBegins).substr(0, size))).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no recording")));
  }
  EXPECT_THAT(ReadAll(folder_.Write("whole", kBegins)), ElementsAre("end"));
}

TEST_F(RecordingTest, WhereverItIsCutOffOnlyWholeExchangesAreRead) {
  WriteTwo();
  const std::string bytes = folder_.Read("two.rec");
  const size_t end_of_first = sizeof(kBegins) - 1 + 8 + ExchangeNamed("a").ByteSizeLong();
  for (size_t size = sizeof(kBegins) - 1 + 1; size < bytes.size(); ++size) {
    const std::string path = folder_.Write("cut", bytes.substr(0, size));
    if (size == end_of_first) {
      EXPECT_THAT(ReadAll(path), ElementsAre("a", "end"));
    } else if (size < end_of_first) {
      EXPECT_THAT(ReadAll(path), ElementsAre(StartsWith(path + ": exchange 1 is cut off")));
    } else {
      EXPECT_THAT(ReadAll(path), ElementsAre("a", StartsWith(path + ": exchange 2 is cut off")));
      EXPECT_THAT(AppendExchange(ExchangeNamed("c"), path),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr("exchange 2 is cut off")));
      EXPECT_EQ(std::filesystem::file_size(path), size);
    }
  }
}

TEST_F(RecordingTest, EveryWrongByteOfAnExchangeIsFound) {
  WriteTwo();
  const std::string bytes = folder_.Read("two.rec");
  for (size_t at = sizeof(kBegins) - 1; at < bytes.size(); ++at) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const std::vector<std::string> read = ReadAll(folder_.Write("damaged", damaged));
      EXPECT_THAT(read.back(), AnyOf(HasSubstr("is damaged: its CRC-32C is"), HasSubstr("is cut off"),
                                     HasSubstr("claims ")))
          << at;
    }
  }
}

TEST_F(RecordingTest, AClaimTakesNoMemory) {
  const std::string huge = std::string(kBegins) + std::string("\xff\xff\xff\xff\0\0\0\0", 8);
  EXPECT_THAT(ReadAll(folder_.Write("huge", huge)),
              ElementsAre(EndsWith("exchange 1 claims 4294967295 bytes, at most 268435456 are allowed")));
  const std::string large = std::string(kBegins) + std::string("\0\0\0\x10\0\0\0\0ab", 10);
  EXPECT_THAT(ReadAll(folder_.Write("large", large)),
              ElementsAre(EndsWith("exchange 1 is cut off: 2 of 268435456 bytes are there")));
}

TEST_F(RecordingTest, BytesThatAreNoExchangeAreRefused) {
  const std::string message = "\xff\xff";
  EXPECT_THAT(ReadAll(folder_.Write("other", kBegins + FrameOf(message) + message)),
              ElementsAre(EndsWith("exchange 1 is no RecordedExchange")));
}

}  // namespace
}  // namespace headlight::client
