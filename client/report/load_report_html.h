// SPDX-License-Identifier: Apache-2.0
#ifndef HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_HTML_H_
#define HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_HTML_H_

#include <nlohmann/json.hpp>
#include <string>

namespace headlight::client {

// The report of a load test, of schema headlight-loadtest/1, as a page of its own: plots of latency by
// percentile, against throughput and over time, tables of the runs and refusals, and the steps of a search.
// The report itself is in it, in the element with the id "data". Fields that are missing leave gaps, not
// errors.
std::string LoadReportHtml(const nlohmann::ordered_json& report);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_HTML_H_
