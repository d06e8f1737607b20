// SPDX-License-Identifier: Apache-2.0
//
// What a batch made of one request.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_RESULT_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_RESULT_H_

#include <cstdint>
#include <memory>
#include <vector>

namespace headlight {

// One of BatchInput::outputs.
struct OutputResult {
  std::shared_ptr<const void> values;      // null where there are none
  std::shared_ptr<const int32_t> indices;  // of kSparse
  std::shared_ptr<const float> scale;      // of kInt8
  std::vector<int64_t> lens;               // of kSparse: entries of each sequence
};

// The memory belongs to the batch and lives as long as these pointers do. `output`, `weights` and
// `received_mass` are of the request's output_dtype; all but the output are null where none were asked for,
// and all of a cancelled request.
struct BatchResult {
  std::shared_ptr<const void> output;  // [query tokens, embed_dim], without padding; or pooled [sequences,
                                       // pooled_dim]
  std::shared_ptr<const void> weights;
  std::shared_ptr<const int32_t> weights_keys;
  std::shared_ptr<const void> received_mass;
  std::vector<OutputResult> outputs;  // `output` is null where there are any
  // Payload bytes written by copying, widening or narrowing it for this request: into the batch, and out of
  // it where the reply does not send the batch's own memory. What gRPC copies is not in it.
  int64_t copied_bytes = 0;
  // Of the batch as a whole, as in attention.proto's TimeBudget.
  int64_t pack_us = 0;
  int64_t compute_us = 0;
  int64_t unpack_us = 0;
  int64_t batch_requests = 0;
  int64_t batch_sequences = 0;
  int64_t batch_tokens = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_RESULT_H_
