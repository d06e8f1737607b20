// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_report_html.h"

namespace headlight::client {

// Provisional: the plots come with the page's own change.
std::string LoadReportHtml(const nlohmann::ordered_json& report) {
  return "<!DOCTYPE html><meta charset=\"utf-8\"><title>Headlight load test</title><pre>" + report.dump(2) +
         "</pre>\n";
}

}  // namespace headlight::client
