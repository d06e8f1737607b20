// SPDX-License-Identifier: Apache-2.0
#include "server/wire/control_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "headlight/v1/attention.pb.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

// In slices of `slice_bytes`.
grpc::ByteBuffer Bytes(const std::string& bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += slice_bytes)
    slices.emplace_back(bytes.substr(at, slice_bytes));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

TEST(ControlMessageTest, WhatIsWrittenIsReadWhereverItIsCut) {
  v1::GetModelRequest request;
  request.set_model("a model with quite a name");
  request.set_model_version("7");
  const grpc::ByteBuffer written = WriteControlMessage(request);
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(written.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(slice.begin(), slice.end());
  for (size_t slice_bytes = 1; slice_bytes <= bytes.size(); ++slice_bytes) {
    v1::GetModelRequest read;
    ASSERT_THAT(ReadControlMessage(Bytes(bytes, slice_bytes), read), IsOk());
    EXPECT_EQ(read.SerializeAsString(), bytes);
  }
}

TEST(ControlMessageTest, ReadsAMessageOfTheLargestSizeAndNoneBeyond) {
  v1::GetModelRequest request;
  const size_t overhead = 4;  // the field's tag and a length of three bytes
  request.set_model(std::string(kMaxControlBytes - overhead, 'm'));
  std::string bytes = request.SerializeAsString();
  ASSERT_EQ(bytes.size(), static_cast<size_t>(kMaxControlBytes));
  v1::GetModelRequest read;
  ASSERT_THAT(ReadControlMessage(Bytes(bytes, 1000), read), IsOk());
  EXPECT_EQ(read.model(), request.model());

  request.set_model(request.model() + "m");
  v1::GetModelRequest unread;
  const absl::Status status = ReadControlMessage(Bytes(request.SerializeAsString(), 1000), unread);
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(std::string(status.message()),
            "headlight.v1.GetModelRequest: got a message of 65537 bytes, wanted at most 65536");
  EXPECT_TRUE(unread.model().empty());
}

TEST(ControlMessageTest, UnknownFieldsAreGone) {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += std::string("\xC2\x3E\x00", 3);  // field 1000, empty
  v1::GetModelRequest request;
  ASSERT_THAT(ReadControlMessage(Bytes(bytes, 7), request), IsOk());
  EXPECT_EQ(request.ByteSizeLong(), 0u);
}

}  // namespace
}  // namespace headlight
