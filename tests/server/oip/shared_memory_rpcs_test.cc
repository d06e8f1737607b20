// SPDX-License-Identifier: Apache-2.0
#include "server/oip/shared_memory_rpcs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::headlight::testing::TempFolder;
using ::testing::HasSubstr;

class SharedMemoryRpcsTest : public ::testing::Test {
 protected:
  SharedMemoryRpcsTest() { folder_.Write("ten", "0123456789"); }

  absl::Status Register(const std::string& name, const std::string& key, uint64_t offset,
                        uint64_t byte_size) {
    inference::SystemSharedMemoryRegisterRequest request;
    request.set_name(name);
    request.set_key(key);
    request.set_offset(offset);
    request.set_byte_size(byte_size);
    return SystemSharedMemoryRegister(&regions_, "a", request);
  }

  absl::Status Unregister(const std::string& name) {
    inference::SystemSharedMemoryUnregisterRequest request;
    request.set_name(name);
    return SystemSharedMemoryUnregister(&regions_, "a", request);
  }

  absl::StatusOr<inference::SystemSharedMemoryStatusResponse> Status(const std::string& tenant,
                                                                     const std::string& name = "") {
    inference::SystemSharedMemoryStatusRequest request;
    request.set_name(name);
    inference::SystemSharedMemoryStatusResponse response;
    const absl::Status status = SystemSharedMemoryStatus(&regions_, tenant, request, response);
    if (!status.ok()) return status;
    return response;
  }

  TempFolder folder_;
  BufferPool pool_{0};
  SharedMemoryRegions regions_{pool_, {}, folder_.path()};
};

TEST_F(SharedMemoryRpcsTest, WhatIsRegisteredIsListed) {
  ASSERT_THAT(Register("r", "/ten", 2, 6), IsOk());
  ASSERT_THAT(Register("s", "ten", 0, 10), IsOk());
  ASSERT_THAT(Status("a"), IsOk());
  EXPECT_EQ(Status("a")->regions_size(), 2);
  const auto one = Status("a", "r");
  ASSERT_THAT(one, IsOk());
  ASSERT_EQ(one->regions_size(), 1);
  EXPECT_EQ(one->regions().at("r").name(), "r");
  EXPECT_EQ(one->regions().at("r").key(), "/ten");
  EXPECT_EQ(one->regions().at("r").offset(), 2u);
  EXPECT_EQ(one->regions().at("r").byte_size(), 6u);
  EXPECT_EQ(Status("b")->regions_size(), 0);
  EXPECT_THAT(Status("b", "r"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"r\"")));
}

TEST_F(SharedMemoryRpcsTest, OneOrAllAreForgotten) {
  for (const char* name : {"r", "s", "t"}) ASSERT_THAT(Register(name, "ten", 0, 1), IsOk());
  EXPECT_THAT(Unregister("r"), IsOk());
  EXPECT_THAT(Unregister("r"), IsOk());  // as clients do before they register
  EXPECT_EQ(Status("a")->regions_size(), 2);
  EXPECT_THAT(Unregister(""), IsOk());
  EXPECT_EQ(Status("a")->regions_size(), 0);
}

TEST_F(SharedMemoryRpcsTest, ErrorsAreThoseOfTheRegions) {
  EXPECT_THAT(Register("r", "a/b", 0, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key: got")));
  ASSERT_THAT(Register("r", "ten", 0, 1), IsOk());
  EXPECT_THAT(Register("r", "ten", 0, 1), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("\"r\"")));
}

TEST(SharedMemoryOffTest, EveryRpcNamesTheOption) {
  const auto denied = StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--allow-shared-memory"));
  inference::SystemSharedMemoryStatusResponse response;
  EXPECT_THAT(SystemSharedMemoryStatus(nullptr, "a", {}, response), denied);
  EXPECT_THAT(SystemSharedMemoryRegister(nullptr, "a", {}), denied);
  EXPECT_THAT(SystemSharedMemoryUnregister(nullptr, "a", {}), denied);
}

}  // namespace
}  // namespace headlight
