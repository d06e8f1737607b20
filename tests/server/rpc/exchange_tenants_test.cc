// SPDX-License-Identifier: Apache-2.0
//
// Tokens make tenants, and tenants the callers that the schedule is fair to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/security/token_table.h"
#include "tests/server/serving_test.h"

namespace headlight {
namespace {

using testing::MakeRequest;

class ExchangeTenantsTest : public testing::ServingTest {
 protected:
  ExchangeTenantsTest() : ServingTest(/*queue_max_requests=*/100) {
    std::vector<TokenTerms> terms;
    for (const char* tenant : {"many", "few"}) {
      terms.emplace_back();
      terms.back().name = terms.back().tenant = tenant;
      terms.back().sha256 = HashToken(TokenOf(tenant));
    }
    gate_.SetTokens(std::make_shared<const TokenTable>(terms));
  }

  static std::string TokenOf(const std::string& tenant) { return "the token of tenant " + tenant; }

  // Of `tokens` tokens. Two of more than 50 do not share a batch here.
  grpc::Status Attend(const std::string& tenant, int64_t tokens) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + TokenOf(tenant));
    context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
    v1::AttendResponse response;
    return stub_->Attend(&context, MakeRequest("small", {1, tokens, 16}), &response);
  }
};

TEST_F(ExchangeTenantsTest, RecordsNameTheTenant) {
  EXPECT_TRUE(Attend("few", 2).ok());
  ASSERT_EQ(told_.records().size(), 1u);
  EXPECT_EQ(told_.records().front().tenant, "few");
}

TEST_F(ExchangeTenantsTest, TheBacklogOfOneTenantIsNotAheadOfAnother) {
  constexpr int kMany = 20;
  auto [entered, release] = executor_.HoldNextBatch();
  std::vector<std::thread> callers;
  for (int i = 0; i < kMany; ++i) {
    callers.emplace_back([this] { EXPECT_TRUE(Attend("many", 60).ok()); });
  }
  entered.wait();
  WaitForCalls(kMany);
  callers.emplace_back([this] { EXPECT_TRUE(Attend("few", 61).ok()); });
  WaitForCalls(kMany + 1);
  release.set_value();
  for (std::thread& caller : callers) caller.join();
  const auto batches = executor_.batches();
  ASSERT_EQ(batches.size(), static_cast<size_t>(kMany + 1));
  const auto place = std::find(batches.begin(), batches.end(), std::vector<int64_t>{61}) - batches.begin();
  EXPECT_LE(place, 3);
}

}  // namespace
}  // namespace headlight
