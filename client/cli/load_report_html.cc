// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_report_html.h"

#include "client/picture/page.h"

namespace headlight::client {

std::string LoadReportHtml(const nlohmann::ordered_json& report) {
  const auto model = report.find("model");
  const bool named = model != report.end() && model->is_string();
  return HtmlPage("Load test of " + (named ? model->get<std::string>() : "a model"), report,
                  std::string(kPlotJs) + kLoadReportJs);
}

}  // namespace headlight::client
