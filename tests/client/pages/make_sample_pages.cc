// SPDX-License-Identifier: Apache-2.0
//
// client_sample_pages FOLDER: writes a page or picture of each kind into the folder, for check_pages.sh.
#include <fstream>
#include <iostream>
#include <string>

#include "client/picture/attention_maps.h"
#include "client/picture/summary_picture.h"
#include "client/report/load_report_html.h"
#include "tests/client/pages/sample_pages.h"

namespace {

using headlight::client::ScaleKind;

bool Write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) std::cerr << path << ": cannot be written\n";
  return static_cast<bool>(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "wanted: client_sample_pages FOLDER\n";
    return 2;
  }
  namespace client = headlight::client;
  namespace testing = headlight::testing;
  const std::string folder = std::string(argv[1]) + "/";
  const bool written =
      Write(folder + "load_sweep.html", client::LoadReportHtml(testing::SampleSweep())) &&
      Write(folder + "load_single.html", client::LoadReportHtml(testing::SampleSingleRun())) &&
      Write(folder + "load_refusals.html", client::LoadReportHtml(testing::SampleRefusals())) &&
      Write(folder + "load_empty.html", client::LoadReportHtml(nlohmann::ordered_json::object())) &&
      Write(folder + "maps_small.svg",
            client::AttentionMapsSvg(testing::SampleMaps(2, 3, 10), ScaleKind::kLinear)) &&
      Write(folder + "maps_long.svg",
            client::AttentionMapsSvg(testing::SampleMaps(1, 2, 48), ScaleKind::kLog)) &&
      Write(folder + "maps_large.html",
            client::AttentionMapsPage(testing::SampleMaps(12, 12, 64), ScaleKind::kLinear)) &&
      Write(folder + "maps_huge.html",
            client::AttentionMapsPage(testing::SampleMaps(1, 2, 700), ScaleKind::kLog)) &&
      Write(folder + "summary_small.svg", client::SummarySvg(testing::SampleSummary(2, 3))) &&
      Write(folder + "summary_large.svg", client::SummarySvg(testing::SampleSummary(24, 32)));
  return written ? 0 : 1;
}
