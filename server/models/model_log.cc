// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_log.h"

#include <spdlog/spdlog.h>

#include <string>

#include "core/attention/layer.h"
#include "core/model/precision_error.h"

namespace headlight {

void LogModel(const LoadedModel& model) {
  const AttentionLayer& attention = model.model.attention();
  spdlog::info(
      "model {} version {}: layout={} layers={} {} parameters, {} bytes, kernel={} precision={} "
      "rms_error={:.2g}",
      model.name, model.version, model.layout, model.model.config().num_layers, model.model.num_parameters(),
      model.model.packed_bytes(), attention.kernel_name(), PrecisionText(attention),
      model.precision_error.rms);
  for (const std::string& note :
       {attention.precision_note(),
        PrecisionWarning(model.precision_error, attention.parameters_precision())}) {
    if (!note.empty()) spdlog::warn("model {} version {}: {}", model.name, model.version, note);
  }
}

}  // namespace headlight
