// SPDX-License-Identifier: Apache-2.0
//
// Load reports and weights that look like real ones, for pages to be drawn of.
#ifndef HEADLIGHT_TESTS_CLIENT_PAGES_SAMPLE_PAGES_H_
#define HEADLIGHT_TESTS_CLIENT_PAGES_SAMPLE_PAGES_H_

#include <cstdint>
#include <nlohmann/json.hpp>

#include "client/picture/attention_maps.h"
#include "client/picture/summary_picture.h"

namespace headlight::testing {

// A sweep over rates up to past the capacity of a server that queues and then refuses, with a gap in the
// second but last run, a tester at its limit in the last, and a search. All fields of headlight-loadtest/1
// are there.
nlohmann::ordered_json SampleSweep();

// One closed-loop run with the least that a report can have.
nlohmann::ordered_json SampleSingleRun();

// Two closed-loop runs; of the second, not one request was answered.
nlohmann::ordered_json SampleRefusals();

// Random weights whose heads look to different places; queries add up to 1.
client::AttentionMaps SampleMaps(int64_t num_layers, int64_t num_heads, int64_t len);

client::SummaryPicture SampleSummary(int64_t num_layers, int64_t num_heads);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_PAGES_SAMPLE_PAGES_H_
