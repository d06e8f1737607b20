// SPDX-License-Identifier: Apache-2.0
//
// Models in folders, of the kinds that take memory in different ways, large enough that what every process
// takes does not matter.
#ifndef HEADLIGHT_TESTS_CORE_CHECKPOINT_LOAD_CASES_H_
#define HEADLIGHT_TESTS_CORE_CHECKPOINT_LOAD_CASES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/attention/config.h"
#include "core/checkpoint/memory_estimate.h"

namespace headlight::testing {

struct LoadCase {
  std::string name;
  std::function<absl::Status(const std::string& folder)> write;
};

std::vector<LoadCase> LoadCases();

// What is said before a folder is loaded in this precision.
MemoryEstimate EstimateOf(const std::string& folder, Precision precision);

// All that the server does to make a model of a folder.
absl::Status Load(const std::string& folder, Precision precision);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_CHECKPOINT_LOAD_CASES_H_
