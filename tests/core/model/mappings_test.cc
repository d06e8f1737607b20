// SPDX-License-Identifier: Apache-2.0
//
// Compiled products are mappings of their own, of which a process may have 65530: layers that are alike share
// theirs.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "core/model/model.h"
#include "core/product/arithmetic.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

struct Mappings {
  int64_t count = 0;
  int64_t executable_bytes = 0;  // neighbours may be one mapping
};

Mappings MappingsNow() {
  Mappings now;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line); ++now.count) {
    std::istringstream fields(line);
    uint64_t begin = 0, end = 0;
    char dash = 0;
    std::string permissions;
    fields >> std::hex >> begin >> dash >> end >> permissions;
    if (permissions.find('x') != std::string::npos) now.executable_bytes += static_cast<int64_t>(end - begin);
  }
  return now;
}

// What a model of so many layers takes.
Mappings MappingsOf(int64_t num_layers) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 32, .num_heads = 2};
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward.hidden_dim = 48;
  config.num_layers = num_layers;
  const ModelParameters parameters = RandomModelParameters(config.Resolved(), 1);
  const Mappings before = MappingsNow();
  const absl::StatusOr<Model> model = Model::Create(config, parameters, "brgemm");
  EXPECT_THAT(model, testing::IsOk());
  const Mappings after = MappingsNow();
  return {after.count - before.count, after.executable_bytes - before.executable_bytes};
}

TEST(MappingsTest, DoNotGrowWithTheNumberOfLayers) {
  const absl::StatusOr<Arithmetic> arithmetic = ChooseArithmetic(Precision::kF32, 48, "brgemm");
  if (!arithmetic.ok()) GTEST_SKIP() << arithmetic.status();
  MappingsOf(1);  // what a process does once is done
  const Mappings of_one = MappingsOf(1);
  const Mappings of_many = MappingsOf(24);
  EXPECT_GT(of_one.executable_bytes, 0) << "where else are its products?";
  EXPECT_EQ(of_many.executable_bytes, of_one.executable_bytes);
  // A mapping for each layer would be 23 more; the heap may take one or two.
  EXPECT_LT(of_many.count, of_one.count + 12);
}

}  // namespace
}  // namespace headlight
