// SPDX-License-Identifier: Apache-2.0
//
// Small models of every kind, and batches for them that own their memory.
#ifndef HEADLIGHT_TESTS_CORE_MODEL_TEST_MODEL_H_
#define HEADLIGHT_TESTS_CORE_MODEL_TEST_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/model.h"

namespace headlight::testing {

struct NamedConfig {
  std::string name;
  ModelConfig config;  // not resolved
};

// Every activation, norm and placement; gated and not; embeddings of each kind; odd widths, one head, one to
// three layers, alike and not.
std::vector<NamedConfig> ModelConfigs();

// A BERT-type encoder that begins at ids, 2 layers deep.
ModelConfig SmallEncoder();

// As ModernBERT is: local layers, and global ones of another theta, of which the first reads what it has not
// normed.
ModelConfig LocalAndGlobalLayers();

// Layers of other heads, feed-forward networks, norms and scores.
ModelConfig LayersOfManyShapes();

// Sequences of the given lengths. The rows of sequence i depend on `seeds[i]` and its length alone.
class ModelInputs {
 public:
  ModelInputs(const ModelConfig& config, const std::vector<int64_t>& lengths,
              const std::vector<uint64_t>& seeds);

  ModelBatch Batch();  // views of this object; output goes to `output`

  int64_t tokens() const { return cu_lens.back(); }
  // The output rows of one sequence.
  std::vector<float> OutputOf(int64_t sequence) const;

  int64_t width;
  std::vector<int64_t> cu_lens = {0};
  std::vector<float> query;
  std::vector<int32_t> token_ids;
  std::vector<int32_t> token_types;
  std::vector<SequenceOptions> sequences;
  std::vector<int64_t> weights_layer;         // of each sequence; or
  std::vector<WeightsLayers> weights_layers;  // several, where there are any of these
  std::vector<float> output;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_MODEL_TEST_MODEL_H_
