// SPDX-License-Identifier: Apache-2.0
#include "server/request/token_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::BytesOf;
using ::testing::ElementsAre;
using testing::IsOk;
using testing::Segmented;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

template <typename T>
WireTensor TensorOf(const std::string& bytes, const Shape& shape, size_t segment_bytes) {
  return {sizeof(T) == 8 ? DType::kI64 : DType::kI32, shape, Segmented(bytes, segment_bytes)};
}

template <typename T>
absl::StatusOr<std::vector<int32_t>> Read(const std::vector<T>& ids, const Shape& shape,
                                          const std::vector<int64_t>& lens, int64_t limit = 50,
                                          size_t segment_bytes = 7) {
  const std::string bytes = BytesOf(ids);
  const SequenceLayout layout = LayoutOf(shape, static_cast<int64_t>(lens.size()));
  return ReadIds("token_ids", TensorOf<T>(bytes, shape, segment_bytes), layout, lens, limit);
}

template <typename T>
class TokenIdsTest : public ::testing::Test {};
using Widths = ::testing::Types<int32_t, int64_t>;
TYPED_TEST_SUITE(TokenIdsTest, Widths);

TYPED_TEST(TokenIdsTest, PaddingIsLeftOutAndNotLookedAt) {
  const std::vector<TypeParam> ids = {1, 2, 3, 4, -1, 999};
  const auto read = Read(ids, {2, 3}, {3, 1});
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(*read, ElementsAre(1, 2, 3, 4));
}

TYPED_TEST(TokenIdsTest, RaggedSequencesAreReadThrough) {
  const std::vector<TypeParam> ids = {0, 49, 3, 4, 5};
  const auto read = Read(ids, {5}, {2, 3});
  ASSERT_THAT(read, IsOk());
  EXPECT_THAT(*read, ElementsAre(0, 49, 3, 4, 5));
}

TYPED_TEST(TokenIdsTest, AWrongIdIsNamedByItsPlaceAndValue) {
  const std::vector<TypeParam> dense = {1, 2, 3, 4, 50, 6};
  EXPECT_THAT(Read(dense, {2, 3}, {3, 2}), StatusIs(kInvalid, "token_ids[1, 1]: got 50, wanted 0 to 49"));
  const std::vector<TypeParam> ragged = {1, 2, 3, -4, 5};
  EXPECT_THAT(Read(ragged, {5}, {2, 3}), StatusIs(kInvalid, "token_ids[3]: got -4, wanted 0 to 49"));
}

TYPED_TEST(TokenIdsTest, ExtremesAreNoIds) {
  for (const TypeParam id : {std::numeric_limits<TypeParam>::min(), std::numeric_limits<TypeParam>::max()}) {
    EXPECT_THAT(Read(std::vector<TypeParam>{id}, {1}, {1}),
                StatusIs(kInvalid, absl::StrCat("token_ids[0]: got ", id, ", wanted 0 to 49")));
  }
}

// More than what is read at a time, cut everywhere.
TYPED_TEST(TokenIdsTest, ManyIdsAreReadWhole) {
  const int64_t count = 10'007;
  std::vector<TypeParam> ids(count);
  for (int64_t i = 0; i < count; ++i) ids[i] = static_cast<TypeParam>(i);
  const auto read = Read(ids, {count}, {3, count - 3}, count, 1001);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(*read, std::vector<int32_t>(ids.begin(), ids.end()));
  EXPECT_THAT(Read(ids, {count}, {3, count - 3}, 9000, 1001),
              StatusIs(kInvalid, "token_ids[9000]: got 9000, wanted 0 to 8999"));
}

// Would be id 1 if its upper half were lost.
TEST(TokenIdsOf64BitsTest, NothingIsCutOff) {
  const std::vector<int64_t> ids = {(int64_t{1} << 32) + 1};
  EXPECT_THAT(Read(ids, {1}, {1}), StatusIs(kInvalid, "token_ids[0]: got 4294967297, wanted 0 to 49"));
}

}  // namespace
}  // namespace headlight
