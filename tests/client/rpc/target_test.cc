// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace headlight::client {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(TargetTest, ListsAreTargetsOfTheirOwn) {
  EXPECT_THAT(ListedAddresses("ipv4:10.0.0.1:8001,10.0.0.2:8002"),
              ElementsAre("ipv4:10.0.0.1:8001", "ipv4:10.0.0.2:8002"));
  EXPECT_THAT(ListedAddresses("ipv4:///10.0.0.1:8001,10.0.0.2:8001"),
              ElementsAre("ipv4:10.0.0.1:8001", "ipv4:10.0.0.2:8001"));
  EXPECT_THAT(ListedAddresses("ipv6:[::1]:8001,[::2]:8001"),
              ElementsAre("ipv6:[::1]:8001", "ipv6:[::2]:8001"));
  for (const char* other : {"10.0.0.1:8001", "dns:///host:8001", "unix:/run/socket", "host,other", "ipv4:"}) {
    EXPECT_THAT(ListedAddresses(other), IsEmpty()) << other;
  }
}

TEST(TargetTest, NamesAreLookedUpHere) {
  EXPECT_EQ(NameToLookUp("headlight.example:8001"), "headlight.example:8001");
  EXPECT_EQ(NameToLookUp("dns:headlight.example:8001"), "headlight.example:8001");
  EXPECT_EQ(NameToLookUp("dns:///headlight.example"), "headlight.example");
  EXPECT_EQ(NameToLookUp("localhost:8001"), "localhost:8001");
  for (const char* other : {"127.0.0.1:8001", "dns:///127.0.0.1:8001", "[::1]:8001", "::1",
                            "unix:/run/socket", "unix-abstract:name", "ipv4:10.0.0.1:8001",
                            "dns://10.0.0.53/headlight.example:8001", "xds:///service", ""}) {
    EXPECT_EQ(NameToLookUp(other), "") << other;
  }
}

TEST(TargetTest, LookUpSaysTargetsWithPorts) {
  EXPECT_THAT(LookUp("localhost:8001"), Contains("ipv4:127.0.0.1:8001"));
  EXPECT_THAT(LookUp("localhost"), Contains("ipv4:127.0.0.1:443"));
  EXPECT_THAT(LookUp("no-such-host.invalid:1"), IsEmpty());
}

}  // namespace
}  // namespace headlight::client
