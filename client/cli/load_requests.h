// SPDX-License-Identifier: Apache-2.0
//
// The requests of a load test: encoded before it begins, so that sending one costs no work of ours.
#ifndef HEADLIGHT_CLIENT_CLI_LOAD_REQUESTS_H_
#define HEADLIGHT_CLIENT_CLI_LOAD_REQUESTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/flags.h"
#include "client/load/load_run.h"

namespace headlight::client {

// Sequence lengths to draw from.
struct LengthDistribution {
  std::vector<int64_t> lengths;    // possible values, at least one, each at least 1
  std::vector<double> cumulative;  // share of draws that are at most lengths[i]; ends with 1
  int64_t Draw(uint64_t random_bits) const;
  int64_t max() const;
};

// "uniform:MIN-MAX"; "zipf:MAX" or "zipf:MAX:EXPONENT", where length n is as likely as 1 / n^EXPONENT (1 if
// not given); "file:PATH", whose lengths, separated by blanks, newlines or commas, are equally likely.
// INVALID_ARGUMENT or NOT_FOUND, saying what was got and wanted.
absl::StatusOr<LengthDistribution> ParseLengthDistribution(const std::string& text);
bool IsLengthDistribution(const std::string& text);  // rather than a list of lengths

struct RequestPoolOptions {
  LengthDistribution lengths;  // without values: all requests are as the flags say
  int64_t sequences = 1;       // of a request whose lengths are drawn, unless --shape says how many
  int pool_size = 1;           // fewer if they would take more than 256 MB
};

struct RequestPool {
  std::vector<PreparedRequest> requests;
  std::vector<RequestFlags> flags;  // that each of them was made by
  std::string input;                // "query" or "token_ids"
  Shape shape;                      // of the input; empty if it is ragged and its lengths are drawn
  double mean_tokens = 0;
  double mean_bytes = 0;
};

// Random requests for `model`. INVALID_ARGUMENT if the flags contradict themselves or a request is over
// `max_bytes`.
absl::StatusOr<RequestPool> MakeRequestPool(const RequestFlags& flags, const RequestPoolOptions& options,
                                            const v1::Model& model, int64_t max_bytes);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_LOAD_REQUESTS_H_
