// SPDX-License-Identifier: Apache-2.0
//
// The report of a load test as one self-contained page.
#ifndef HEADLIGHT_CLIENT_CLI_LOAD_REPORT_HTML_H_
#define HEADLIGHT_CLIENT_CLI_LOAD_REPORT_HTML_H_

#include <nlohmann/json.hpp>
#include <string>

namespace headlight::client {

// `report` is of the schema headlight-loadtest/1 (docs/load-testing.md).
std::string LoadReportHtml(const nlohmann::ordered_json& report);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_LOAD_REPORT_HTML_H_
