// SPDX-License-Identifier: Apache-2.0
//
// Models that take turns in one workspace.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::ModelInputs;

struct Served {
  std::string name;
  ModelConfig config;
  std::unique_ptr<Model> model;
  std::vector<std::vector<float>> expected;  // of a workspace of its own, by lengths
};

const std::vector<std::vector<int64_t>>& Lengths() {
  static const auto& lengths = *new std::vector<std::vector<int64_t>>{{3, 90, 20}, {1}, {33, 33, 33, 33}};
  return lengths;
}

std::vector<float> Compute(const Served& served, const std::vector<int64_t>& lengths, ComputeArena& arena,
                           ModelWorkspace& workspace) {
  ModelInputs inputs(served.config, lengths, std::vector<uint64_t>(lengths.size(), 1));
  EXPECT_THAT(served.model->Forward(inputs.Batch(), arena, workspace), IsOk());
  return inputs.output;
}

// Of every width, precision, norm and position.
std::vector<Served> AllModels(ComputeArena& arena) {
  std::vector<Served> all;
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    for (const testing::NamedConfig& named : testing::ModelConfigs()) {
      ModelConfig config = named.config.Resolved();
      config.SetPrecision(precision);
      absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
      if (!model.ok()) {
        ADD_FAILURE() << named.name << ": " << model.status();
        continue;
      }
      all.push_back({named.name, config, std::make_unique<Model>(*std::move(model)), {}});
      for (const auto& lengths : Lengths()) {
        all.back().expected.push_back(Compute(all.back(), lengths, arena, *Model::NewWorkspace(arena)));
      }
    }
  }
  return all;
}

TEST(SharedWorkspaceTest, EachModelComputesWhatItComputesInOneOfItsOwn) {
  ComputeArena arena(2);
  const std::vector<Served> all = AllModels(arena);
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < Lengths().size(); ++i) {
      for (const Served& served : all) {
        SCOPED_TRACE(served.name);
        EXPECT_TRUE(testing::SameBits(Compute(served, Lengths()[i], arena, *workspace), served.expected[i]));
      }
    }
    workspace->TrimUnused();
  }
}

}  // namespace
}  // namespace headlight
