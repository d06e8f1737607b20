// SPDX-License-Identifier: Apache-2.0
//
// A picture of statistics: for each of them a grid with a row for each layer, a column for each head and the
// value as the colour.
#ifndef HEADLIGHT_CLIENT_PICTURE_SUMMARY_PICTURE_H_
#define HEADLIGHT_CLIENT_PICTURE_SUMMARY_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace headlight::client {

struct StatisticGrid {
  std::string name;           // "entropy"
  std::string unit;           // "nats"
  std::string explanation;    // one sentence
  std::vector<float> values;  // [layers, heads]
};

struct SummaryPicture {
  std::string title;
  std::string subtitle;
  std::vector<int64_t> layers;
  std::vector<int64_t> heads;
  std::vector<StatisticGrid> statistics;
};

// One below the other, each with a scale of its own from its least to its largest value. Values are written
// into the cells and their hover texts.
std::string SummarySvg(const SummaryPicture& picture);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_SUMMARY_PICTURE_H_
