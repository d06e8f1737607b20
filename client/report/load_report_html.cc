// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_report_html.h"

#include "client/picture/page.h"

namespace headlight::client {

std::string LoadReportHtml(const nlohmann::ordered_json& report) {
  const auto model = report.find("model");
  const bool named = model != report.end() && model->is_string();
  std::string script;
  // The last one draws; it wants to find the others' constants there.
  for (const char* part : {kPlotJs, kLoadDataJs, kLoadPlotsJs, kLoadTablesJs, kLoadReportJs}) script += part;
  return HtmlPage("Load test of " + (named ? model->get<std::string>() : "a model"), report, script);
}

}  // namespace headlight::client
