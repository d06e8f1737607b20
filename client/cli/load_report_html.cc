// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_report_html.h"

#include "client/picture/page.h"

namespace headlight::client {

std::string LoadReportHtml(const nlohmann::ordered_json& report) {
  const std::string model = report.value("model", "");
  return HtmlPage("Load test of " + (model.empty() ? "a model" : model), report,
                  std::string(kPlotJs) + kLoadReportJs);
}

}  // namespace headlight::client
