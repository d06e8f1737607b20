// SPDX-License-Identifier: Apache-2.0
//
// A model folder with inputs, as cases.py of this folder writes them, run through a Model.
#ifndef HEADLIGHT_TESTS_GOLDEN_GOLDEN_CASE_H_
#define HEADLIGHT_TESTS_GOLDEN_GOLDEN_CASE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/attention/config.h"
#include "core/checkpoint/folder.h"

namespace headlight {

// An output beside the hidden states, "outputs.KIND" of the case.
struct GoldenOutput {
  OutputKind kind = OutputKind::kPooled;
  std::vector<float> output;  // of kTokenLogits of every token; of kSparse a weight for each id
  std::vector<float> expected;
};

struct GoldenRun {
  ModelSummary summary;
  Precision precision = Precision::kF32;  // that was computed in
  int64_t embed_dim = 0;
  std::vector<float> output;            // [tokens, embed_dim]
  std::vector<float> expected_output;   // likewise; empty if the case has none
  std::vector<float> weights;           // as "weights" of the case; empty if the case has none
  std::vector<float> expected_weights;  // likewise
  std::vector<GoldenOutput> outputs;    // that the case has
};

// How a case is computed.
struct GoldenHow {
  std::string kernel = {};  // empty: one that computes in the precision
  int num_threads = 2;
  bool batched = true;  // else each sequence alone
  // What parameters are held in, or if they are rounded before, are rounded to.
  Precision parameters = Precision::kF32;
  bool rounded_before = false;
};

// Loads `folder`, computes the inputs of `case_file` in `precision`, and reads what the case expects.
absl::StatusOr<GoldenRun> RunGoldenCase(const std::string& folder, const std::string& case_file,
                                        Precision precision, const GoldenHow& how = {});

double MaxAbsError(const std::vector<float>& got, const std::vector<float>& expected);
double Cosine(const std::vector<float>& got, const std::vector<float>& expected);

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_GOLDEN_GOLDEN_CASE_H_
