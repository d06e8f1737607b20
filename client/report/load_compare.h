// SPDX-License-Identifier: Apache-2.0
//
// Two load tests side by side.
#ifndef HEADLIGHT_CLIENT_REPORT_LOAD_COMPARE_H_
#define HEADLIGHT_CLIENT_REPORT_LOAD_COMPARE_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace headlight::client {

// A report that --json wrote. NOT_FOUND if it cannot be read, INVALID_ARGUMENT if it is no report of the
// schema that this program writes.
absl::StatusOr<nlohmann::ordered_json> ReadLoadReport(const std::string& path);

// Throughput and latency of the runs that both have, by loop and concurrency or rate, with ratios (second to
// first). Says which runs have no partner, and what about the requests differs.
std::string CompareLoadReports(const nlohmann::ordered_json& first, const nlohmann::ordered_json& second);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_LOAD_COMPARE_H_
