// SPDX-License-Identifier: Apache-2.0
#include "core/base/weak_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <new>

namespace headlight {
namespace {

TEST(WeakCacheTest, GivesWhatSomebodyHoldsAndMakesItOtherwise) {
  WeakCache<int, int> cache;
  int made = 0;
  const auto make = [&] { return std::make_shared<const int>(++made); };
  std::shared_ptr<const int> one = cache.Get(1, make);
  EXPECT_EQ(cache.Get(1, make), one);
  EXPECT_NE(cache.Get(2, make), one);
  EXPECT_EQ(made, 2);
  const std::weak_ptr<const int> watched = one;
  one.reset();
  EXPECT_TRUE(watched.expired()) << "the cache keeps nothing alive";
  EXPECT_EQ(*cache.Get(1, make), 3);
}

TEST(WeakCacheTest, WhatCannotBeMadeIsTriedAgain) {
  WeakCache<int, int> cache;
  EXPECT_THROW(cache.Get(1, []() -> std::shared_ptr<const int> { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_EQ(*cache.Get(1, [] { return std::make_shared<const int>(7); }), 7);
}

}  // namespace
}  // namespace headlight
