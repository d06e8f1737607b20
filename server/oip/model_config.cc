// SPDX-License-Identifier: Apache-2.0
#include "server/oip/model_config.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/attention/layer.h"
#include "core/product/precision.h"
#include "server/oip/model_metadata.h"
#include "server/oip/model_tensors.h"
#include "server/oip/oip_datatypes.h"
#include "server/oip/parameters.h"

namespace headlight {
namespace {

// The number of what texts call "FP32".
inference::DataType DataTypeOf(DType dtype) {
  inference::DataType type = inference::TYPE_INVALID;
  inference::DataType_Parse(absl::StrCat("TYPE_", DatatypeOf(dtype)), &type);
  return type;
}

void DescribeTensors(const ModelTensors& tensors, inference::ModelConfig& out) {
  for (const DescribedTensor& tensor : tensors.inputs) {
    inference::ModelInput& input = *out.add_input();
    input.set_name(tensor.name);
    input.set_data_type(DataTypeOf(tensor.dtype));
    input.mutable_dims()->Assign(tensor.dims.begin(), tensor.dims.end());
    input.set_allow_ragged_batch(true);  // nothing is padded
  }
  for (const DescribedTensor& tensor : tensors.outputs) {
    inference::ModelOutput& output = *out.add_output();
    output.set_name(tensor.name);
    output.set_data_type(DataTypeOf(tensor.dtype));
    output.mutable_dims()->Assign(tensor.dims.begin(), tensor.dims.end());
  }
}

// What waits is computed together, as the scheduler decides for all models at once.
void DescribeBatching(const ModelConfigLimits& limits, inference::ModelDynamicBatching& out) {
  out.set_priority_levels(kPriorityLevels);
  out.set_default_priority_level(kDefaultPriorityLevel);
  inference::ModelQueuePolicy& policy = *out.mutable_default_queue_policy();
  policy.set_timeout_action(inference::ModelQueuePolicy::REJECT);
  policy.set_default_timeout_microseconds(limits.default_deadline_us);
  policy.set_allow_timeout_override(true);
  policy.set_max_queue_size(
      static_cast<uint32_t>(std::clamp<int64_t>(limits.queue_max_requests, 0, UINT32_MAX)));
}

}  // namespace

void DescribeConfig(const LoadedModel& model, const ModelConfigLimits& limits, inference::ModelConfig& out) {
  const ModelTensors tensors = TensorsOf(model.model.config());
  out.set_name(model.name);
  out.set_platform(kPlatform);
  out.set_backend(kPlatform);
  out.mutable_version_policy()->mutable_latest()->set_num_versions(1);
  out.set_max_batch_size(MaxBatchSize(tensors, limits.max_message_bytes));
  DescribeTensors(tensors, out);
  inference::ModelInstanceGroup& instances = *out.add_instance_group();
  instances.set_name(model.name);
  instances.set_count(1);
  instances.set_kind(inference::ModelInstanceGroup::KIND_CPU);
  DescribeBatching(limits, *out.mutable_dynamic_batching());
  out.mutable_model_transaction_policy()->set_decoupled(false);
  const auto set = [&out](const char* name, std::string value) {
    (*out.mutable_parameters())[name].set_string_value(std::move(value));
  };
  set("optional_inputs", absl::StrJoin(tensors.optional_inputs, ","));
  set("other_outputs", absl::StrJoin(tensors.other_outputs, ","));
  set("precision", Name(model.model.attention().precision()));
  if (const AttentionLayer& layer = model.model.attention();
      layer.parameters_precision() != layer.precision()) {
    set("parameters_precision", Name(layer.parameters_precision()));
  }
  set("kernel", model.model.attention().kernel_name());
  if (const auto& embedding = model.model.config().embedding) {
    set("vocab_size", absl::StrCat(embedding->vocab_size));
    if (embedding->max_seq_len() != INT64_MAX) set("max_seq_len", absl::StrCat(embedding->max_seq_len()));
  }
}

}  // namespace headlight
