// SPDX-License-Identifier: Apache-2.0
//
// Outputs as the Open Inference Protocol asks for them: each tensor of a reply by its name.
#ifndef HEADLIGHT_SERVER_OIP_OUTPUT_NAMES_H_
#define HEADLIGHT_SERVER_OIP_OUTPUT_NAMES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/parameters.h"
#include "server/oip/tensor_regions.h"
#include "server/request/request_fields.h"

namespace headlight {

// "last_hidden_state", "sentence_embedding", "scores", ...
const char* NameOfOutput(OutputKind kind);

// Which of a result's tensors one is.
enum class ReplyPart : uint8_t {
  kOutput,  // BatchResult's own
  kWeights,
  kWeightsKeys,
  kReceivedMass,
  kValues,  // of one of its outputs, as are the next ones
  kIndices,
  kScale,
  kLens,
};

// One tensor of a reply.
struct AskedTensor {
  std::string name;
  ReplyPart part = ReplyPart::kOutput;
  size_t output = 0;                 // which of several
  std::optional<TensorPlace> place;  // where it goes; nothing: into the message
};

struct OutputsAsked {
  std::vector<OutputFields> outputs;  // empty: one, as the next two say
  PoolingAsked pooling;
  int64_t dimensions = 0;
  int64_t copies = 1;  // names that it goes by in the reply
  WeightsSink::Mode weights = WeightsSink::Mode::kNone;
  // In the order of the reply: as the request has them, each followed by what cannot be read without it: the
  // ids and lengths of sparse vectors, the lengths of token vectors, the scale of INT8.
  std::vector<AskedTensor> tensors;
};

using OutputList =
    google::protobuf::RepeatedPtrField<inference::ModelInferRequest::InferRequestedOutputTensor>;

// What `list` asks for; nothing: `output`, and the form of the weights that the parameters name.
// INVALID_ARGUMENT: a name that is none or comes twice, two forms of the weights, parameters that contradict
// the names.
absl::StatusOr<OutputsAsked> ChooseOutputs(const OutputList& list, const RequestParameters& parameters);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_OUTPUT_NAMES_H_
