// SPDX-License-Identifier: Apache-2.0
//
// What a model takes and gives, in the names of the Open Inference Protocol. ModelMetadata and ModelConfig
// both tell it from here, so they agree.
#ifndef HEADLIGHT_SERVER_OIP_MODEL_TENSORS_H_
#define HEADLIGHT_SERVER_OIP_MODEL_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/config.h"
#include "core/tensor/dtype.h"

namespace headlight {

struct DescribedTensor {
  std::string name;
  DType dtype = DType::kF32;  // others are taken, and given if asked for
  std::vector<int64_t> dims;  // without the batch; -1: of any size
};

// Those of the dense form, [batch, seq_len, ...].
struct ModelTensors {
  // What every request must have. What it may have besides is named in `optional_inputs` and described
  // nowhere: perf_analyzer fills each input that it is told of with random bytes, optional ones too.
  std::vector<DescribedTensor> inputs;
  std::vector<std::string> optional_inputs;
  // What a request may ask for by name. The first is what it gets that asks for nothing. Named in
  // `other_outputs` is what perf_analyzer had better not ask for, which asks for each output that it is told
  // of: all forms of the weights, of which a request has one, what takes further inputs, and sparse and token
  // vectors, whose sizes have nothing to do with the batch.
  std::vector<DescribedTensor> outputs;
  std::vector<std::string> other_outputs;
};

ModelTensors TensorsOf(const ModelConfig& config);

// The most sequences, of one token each, that a request and its reply have room for in messages of so many
// bytes; at least 1.
int32_t MaxBatchSize(const ModelTensors& tensors, int64_t max_message_bytes);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_MODEL_TENSORS_H_
