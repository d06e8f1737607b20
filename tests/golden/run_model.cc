// SPDX-License-Identifier: Apache-2.0
//
// For try_models.py: loads a model folder and compares it with what PyTorch computed.
//   golden_run_model FOLDER CASE.safetensors [f32|bf16|int8]
// Prints one line, "layout max_abs_error largest_expected cosine computed_in ignored_tensors" and behind that
// the keys of config.json that were not understood; the error and exit 1 if the model cannot be loaded.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "absl/strings/str_join.h"
#include "tests/golden/golden_case.h"

int main(int argc, char** argv) {
  auto precision = headlight::Precision::kF32;
  const std::string wanted = argc == 4 ? argv[3] : "f32";
  if (wanted == "bf16") precision = headlight::Precision::kBf16;
  if (wanted == "int8") precision = headlight::Precision::kInt8;
  if (argc < 3 || argc > 4 || wanted != headlight::Name(precision)) {
    std::fputs("usage: golden_run_model FOLDER CASE.safetensors [f32|bf16|int8]\n", stderr);
    return 2;
  }
  const auto run = headlight::RunGoldenCase(argv[1], argv[2], precision);
  if (!run.ok()) {
    std::fprintf(stderr, "%s\n", run.status().ToString().c_str());
    return 1;
  }
  double error = headlight::MaxAbsError(run->output, run->expected_output);
  if (!run->expected_weights.empty()) {
    error = std::max(error, headlight::MaxAbsError(run->weights, run->expected_weights));
  }
  float largest = 0.0f;
  for (const float value : run->expected_output) largest = std::max(largest, std::abs(value));
  // Of the other outputs likewise, each of its own largest number.
  const double scale = std::max(1.0, static_cast<double>(largest));
  for (const headlight::GoldenOutput& output : run->outputs) {
    float largest_of_it = 1.0f;
    for (const float value : output.expected) largest_of_it = std::max(largest_of_it, std::abs(value));
    error = std::max(error, headlight::MaxAbsError(output.output, output.expected) /
                                static_cast<double>(largest_of_it) * scale);
  }
  std::printf("%s %.3g %.3g %.6f %s %zu %s\n", run->summary.format.c_str(), error,
              static_cast<double>(largest), headlight::Cosine(run->output, run->expected_output),
              headlight::Name(run->precision), run->summary.ignored_tensors.size(),
              absl::StrJoin(run->summary.not_understood, " ").c_str());
  return 0;
}
