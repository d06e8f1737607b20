// SPDX-License-Identifier: Apache-2.0
#include "core/attention/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

namespace headlight {
namespace {

const RopeConfig kSmallRope = {.theta = 100.0, .rotary_dim = 6};
const RopeConfig kOtherRope = {
    .theta = 100.0, .rotary_dim = 6, .scaling = RopeConfig::Scaling::kLinear, .factor = 4.0};

// The positions [begin, end), against the functions of the standard library in double.
void ExpectAngles(const RopeTable& table, const RopeConfig& rope, int64_t begin, int64_t end) {
  ASSERT_TRUE(table.Holds(begin, end));
  const Rotation rotation = table.From(begin);
  ASSERT_EQ(rotation.num_pairs, rope.rotary_dim / 2);
  for (int64_t position = begin; position < end; ++position) {
    for (int64_t pair = 0; pair < rotation.num_pairs; ++pair) {
      const double angle = static_cast<double>(position) * RopeFrequency(rope, pair);
      const int64_t place = (position - begin) * rotation.num_pairs + pair;
      ASSERT_EQ(rotation.cos[place], static_cast<float>(rope.magnitude * std::cos(angle)))
          << position << ", pair " << pair;
      ASSERT_EQ(rotation.sin[place], static_cast<float>(rope.magnitude * std::sin(angle)))
          << position << ", pair " << pair;
    }
  }
}

class RopeTableTest : public ::testing::Test {
 protected:
  ComputeArena arena_{2};
  RopeTable table_;
};

TEST_F(RopeTableTest, HoldsCosinesAndSinesOfPositionsAboveAndBelowZero) {
  ASSERT_TRUE(table_.Reserve(kSmallRope, -70, 100, arena_));
  ExpectAngles(table_, kSmallRope, -70, 100);
}

TEST_F(RopeTableTest, GrowsByTheMagnitude) {
  RopeConfig rope = kSmallRope;
  rope.magnitude = 1.375;
  ASSERT_TRUE(table_.Reserve(rope, -3, 40, arena_));
  ExpectAngles(table_, rope, -3, 40);
  EXPECT_EQ(table_.From(0).cos[0], 1.375f);
}

TEST_F(RopeTableTest, HoldsWhatItWasAskedForAndNoMore) {
  EXPECT_FALSE(table_.Holds(0, 1));
  ASSERT_TRUE(table_.Reserve(kSmallRope, -5, 40, arena_));
  EXPECT_TRUE(table_.Holds(-5, 40));
  EXPECT_TRUE(table_.Holds(3, 4));
  EXPECT_FALSE(table_.Holds(-6, 0));
  EXPECT_FALSE(table_.Holds(0, 41));
}

TEST_F(RopeTableTest, GrowsToBothSides) {
  ASSERT_TRUE(table_.Reserve(kSmallRope, 0, 10, arena_));
  ASSERT_TRUE(table_.Reserve(kSmallRope, -3, 5, arena_));
  ExpectAngles(table_, kSmallRope, -3, 10);
  ASSERT_TRUE(table_.Reserve(kSmallRope, 2, 90, arena_));
  ExpectAngles(table_, kSmallRope, -3, 90);
}

TEST_F(RopeTableTest, WhatItHoldsIsNotMadeAgain) {
  ASSERT_TRUE(table_.Reserve(kSmallRope, 0, 10, arena_));
  const Rotation before = table_.From(0);
  ASSERT_TRUE(table_.Reserve(kSmallRope, 2, 9, arena_));
  EXPECT_EQ(table_.From(0).cos, before.cos);
  EXPECT_TRUE(table_.Holds(0, 10));
}

TEST_F(RopeTableTest, AnotherConfigBeginsAnew) {
  ASSERT_TRUE(table_.Reserve(kSmallRope, -20, 100, arena_));
  ASSERT_TRUE(table_.Reserve(kOtherRope, 0, 8, arena_));
  EXPECT_FALSE(table_.Holds(0, 9));
  EXPECT_FALSE(table_.Holds(-1, 8));
  ExpectAngles(table_, kOtherRope, 0, 8);
}

TEST_F(RopeTableTest, ABufferThatWasGivenBackIsFilledAgain) {
  ASSERT_TRUE(table_.Reserve(kSmallRope, 0, 10, arena_));
  table_.ForEachBuffer([](Buffer& buffer) { buffer = Buffer(); });
  EXPECT_EQ(table_.size_bytes(), 0);
  ASSERT_TRUE(table_.Reserve(kSmallRope, 0, 10, arena_));
  ExpectAngles(table_, kSmallRope, 0, 10);
}

TEST_F(RopeTableTest, GrowsByWhatItSays) {
  for (const auto& [begin, end] : {std::pair(0, 10), std::pair(-40, 1000), std::pair(0, 2000)}) {
    const int64_t before = table_.size_bytes(), growth = table_.GrowthFor(kSmallRope, begin, end);
    ASSERT_TRUE(table_.Reserve(kSmallRope, begin, end, arena_));
    EXPECT_EQ(table_.size_bytes(), before + growth) << begin << ".." << end;
  }
  EXPECT_EQ(table_.GrowthFor(kSmallRope, 0, 1500), 0);
}

TEST_F(RopeTableTest, SaysWhichDimensionsMakeAPair) {
  RopeConfig rope = kSmallRope;
  ASSERT_TRUE(table_.Reserve(rope, 0, 2, arena_));
  EXPECT_FALSE(table_.From(0).interleaved);
  rope.interleaved = true;
  ASSERT_TRUE(table_.Reserve(rope, 0, 2, arena_));
  EXPECT_TRUE(table_.From(0).interleaved);
}

TEST(ModelRopeTableTest, HoldsThePositionsOfMostSequences) {
  const RopeTable table(kSmallRope);
  ExpectAngles(table, kSmallRope, 0, RopeTable::kPositions);
  EXPECT_FALSE(table.Holds(0, RopeTable::kPositions + 1));
  EXPECT_FALSE(table.Holds(-1, 1));
}

TEST_F(RopeTableTest, IsTheSameHoweverManyThreadsMakeIt) {
  ComputeArena alone(1);
  RopeTable other;
  ASSERT_TRUE(table_.Reserve(kSmallRope, -7, 300, arena_));
  ASSERT_TRUE(other.Reserve(kSmallRope, -7, 300, alone));
  const size_t bytes = 307 * 3 * sizeof(float);
  EXPECT_EQ(std::memcmp(table_.From(-7).cos, other.From(-7).cos, bytes), 0);
  EXPECT_EQ(std::memcmp(table_.From(-7).sin, other.From(-7).sin, bytes), 0);
}

TEST(SharedRopeTableTest, ModelsThatTurnAlikeShareATable) {
  const RopeConfig rope{.rotary_dim = 4};
  const std::shared_ptr<const RopeTable> table = SharedRopeTable(rope);
  EXPECT_TRUE(table->Holds(0, RopeTable::kPositions));
  EXPECT_EQ(table->size_bytes(), RopeTable::ModelBytes(rope));
  EXPECT_EQ(SharedRopeTable(rope), table);
  EXPECT_NE(SharedRopeTable({.theta = 500.0, .rotary_dim = 4}), table);
}

}  // namespace
}  // namespace headlight
