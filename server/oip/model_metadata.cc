// SPDX-License-Identifier: Apache-2.0
#include "server/oip/model_metadata.h"

#include "server/oip/model_tensors.h"
#include "server/oip/oip_datatypes.h"

namespace headlight {
namespace {

void DescribeShape(const DescribedTensor& tensor,
                   inference::ModelMetadataResponse::TensorMetadata& described) {
  described.set_name(tensor.name);
  described.set_datatype(DatatypeOf(tensor.dtype));
  described.add_shape(-1);  // the batch
  for (const int64_t dim : tensor.dims) described.add_shape(dim);
}

}  // namespace

void DescribeMetadata(const LoadedModel& model, inference::ModelMetadataResponse& out) {
  const ModelTensors tensors = TensorsOf(model.model.config());
  out.set_name(model.name);
  out.set_platform(kPlatform);
  for (const DescribedTensor& input : tensors.inputs) DescribeShape(input, *out.add_inputs());
  for (const DescribedTensor& output : tensors.outputs) DescribeShape(output, *out.add_outputs());
}

}  // namespace headlight
