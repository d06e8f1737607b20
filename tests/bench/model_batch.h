// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks run of whole models.
#ifndef HEADLIGHT_TESTS_BENCH_MODEL_BATCH_H_
#define HEADLIGHT_TESTS_BENCH_MODEL_BATCH_H_

#include <cstdint>
#include <vector>

#include "core/model/model.h"
#include "core/tensor/buffer.h"

namespace headlight::bench {

// MiniLM's dimensions: a BERT-type encoder, 6 layers, 384 wide.
ModelConfig EncoderConfig();

// Random sequences for a model, and room for its hidden states and pooled vectors.
struct ModelBenchBatch {
  ModelBenchBatch(const ModelConfig& config, int64_t num_sequences, int64_t seq_len);

  int64_t width;
  std::vector<float> input;
  Buffer output;
  std::vector<float> pooled;
  std::vector<int64_t> cu_lens;
  std::vector<int32_t> token_ids;
  std::vector<SequenceOptions> sequences;
  ModelBatch batch;  // views of the above
};

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_MODEL_BATCH_H_
