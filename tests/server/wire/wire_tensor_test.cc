// SPDX-License-Identifier: Apache-2.0
#include "server/wire/wire_tensor.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>

#include "server/attend/dtype_names.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::Segmented;
using testing::StatusIs;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

constexpr size_t kRanks[] = {2};
constexpr DType kTypes[] = {DType::kBool, DType::kF32};
std::string WantedShape() { return "[rows, cols]"; }

absl::StatusOr<WireTensor> Check(int dtype, const Shape& shape, size_t payload_bytes) {
  const std::string payload(payload_bytes, 'x');
  const ByteSegments bytes = Segmented(payload, 7);
  const NamedTensor tensor = {"mask", FromProto(static_cast<v1::DType>(dtype)), shape, &bytes};
  return CheckTensor(tensor, {kRanks, kTypes, WantedShape}, kAttendNames.tensors);
}

auto Invalid(const std::string& message) { return StatusIs(absl::StatusCode::kInvalidArgument, message); }

TEST(WireTensorTest, AcceptsEachDTypeOfTheRule) {
  const auto bools = Check(v1::DTYPE_BOOL, {2, 3}, 6);
  ASSERT_THAT(bools, IsOk());
  EXPECT_EQ(bools->dtype, DType::kBool);
  EXPECT_EQ(bools->shape, Shape({2, 3}));
  EXPECT_EQ(bools->bytes.size_bytes(), 6);
  const auto floats = Check(v1::DTYPE_F32, {2, 3}, 24);
  ASSERT_THAT(floats, IsOk());
  EXPECT_EQ(floats->dtype, DType::kF32);
}

TEST(WireTensorTest, RefusesADTypeThatIsMissingOrUnknown) {
  EXPECT_THAT(Check(v1::DTYPE_UNSPECIFIED, {2, 3}, 6),
              Invalid("mask.dtype: got DTYPE_UNSPECIFIED, wanted DTYPE_BOOL or DTYPE_F32"));
  EXPECT_THAT(Check(17, {2, 3}, 6),
              Invalid("mask.dtype: got 17, which is no DType, wanted DTYPE_BOOL or DTYPE_F32"));
  EXPECT_THAT(Check(-1, {2, 3}, 6),
              Invalid("mask.dtype: got -1, which is no DType, wanted DTYPE_BOOL or DTYPE_F32"));
}

TEST(WireTensorTest, RefusesADTypeThatTheRuleDoesNotName) {
  EXPECT_THAT(Check(v1::DTYPE_F16, {2, 3}, 12),
              Invalid("mask.dtype: got DTYPE_F16, wanted DTYPE_BOOL or DTYPE_F32"));
  EXPECT_THAT(Check(v1::DTYPE_I32, {2, 3}, 24),
              Invalid("mask.dtype: got DTYPE_I32, wanted DTYPE_BOOL or DTYPE_F32"));
}

TEST(WireTensorTest, NumbersTravelInThreeTypes) {
  constexpr size_t kOne[] = {1};
  const Shape shape = {3};
  const auto check = [&](v1::DType dtype, size_t payload_bytes) {
    const std::string payload(payload_bytes, 'x');
    const ByteSegments bytes = Segmented(payload, 5);
    return CheckTensor({"query", FromProto(dtype), shape, &bytes}, {kOne, kFloatTypes, WantedShape},
                       kAttendNames.tensors);
  };
  for (const auto& [dtype, wanted, bytes] :
       {std::tuple(v1::DTYPE_F32, DType::kF32, 12), std::tuple(v1::DTYPE_BF16, DType::kBf16, 6),
        std::tuple(v1::DTYPE_F16, DType::kF16, 6)}) {
    const auto tensor = check(dtype, bytes);
    ASSERT_THAT(tensor, IsOk());
    EXPECT_EQ(tensor->dtype, wanted);
    EXPECT_EQ(ToProto(wanted), dtype);
    EXPECT_THAT(check(dtype, bytes - 1),
                Invalid("payloads: got " + std::to_string(bytes - 1) + " bytes for query, wanted " +
                        std::to_string(bytes) + " for " + v1::DType_Name(dtype) + " [3]"));
  }
  EXPECT_THAT(check(v1::DTYPE_BOOL, 0),
              Invalid("query.dtype: got DTYPE_BOOL, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16"));
}

TEST(WireTensorTest, ATensorThatIsOnlyDescribedHasNoBytesToCount) {
  const Shape shape = {2, 3};
  const auto tensor =
      CheckTensor({"mask", {DType::kF32, {}}, shape, nullptr}, {kRanks, kTypes, WantedShape}, kAttendNames.tensors);
  ASSERT_THAT(tensor, IsOk());
  EXPECT_EQ(tensor->shape, shape);
  EXPECT_TRUE(tensor->bytes.empty());
}

TEST(WireTensorTest, RefusesWrongRanks) {
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {}, 1), Invalid("mask.shape: got 0 dimensions, wanted [rows, cols]"));
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {2, 3, 1}, 6),
              Invalid("mask.shape: got 3 dimensions, wanted [rows, cols]"));
  EXPECT_THAT(Check(v1::DTYPE_BOOL, Shape(100'000, 1), 1),
              Invalid("mask.shape: got 100000 dimensions, wanted [rows, cols]"));
}

TEST(WireTensorTest, RefusesDimensionsBelowOne) {
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {0, 3}, 0),
              Invalid("mask.shape: got [0, 3], wanted every dimension to be at least 1"));
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {-2, -3}, 6),
              Invalid("mask.shape: got [-2, -3], wanted every dimension to be at least 1"));
}

TEST(WireTensorTest, RefusesProductsThatOverflow) {
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {kHuge, 2}, 6),
              Invalid("mask.shape: [9223372036854775807, 2] is more than 2^63 bytes"));
  EXPECT_THAT(Check(v1::DTYPE_F32, {int64_t{1} << 62, 1}, 0),
              Invalid("mask.shape: [4611686018427387904, 1] is more than 2^63 bytes"));
  // 2^32 * 2^32 = 2^64, which wraps to 0: exactly the bytes that are there.
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {int64_t{1} << 32, int64_t{1} << 32}, 0),
              Invalid("mask.shape: [4294967296, 4294967296] is more than 2^63 bytes"));
}

TEST(WireTensorTest, RefusesWrongByteCounts) {
  EXPECT_THAT(Check(v1::DTYPE_BOOL, {2, 3}, 5),
              Invalid("payloads: got 5 bytes for mask, wanted 6 for DTYPE_BOOL [2, 3]"));
  EXPECT_THAT(Check(v1::DTYPE_F32, {2, 3}, 25),
              Invalid("payloads: got 25 bytes for mask, wanted 24 for DTYPE_F32 [2, 3]"));
  EXPECT_THAT(Check(v1::DTYPE_F32, {2, 3}, 0),
              Invalid("payloads: got 0 bytes for mask, wanted 24 for DTYPE_F32 [2, 3]"));
}

}  // namespace
}  // namespace headlight
