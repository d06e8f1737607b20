// SPDX-License-Identifier: Apache-2.0
//
// What the log says of a model.
#ifndef HEADLIGHT_SERVER_MODELS_MODEL_LOG_H_
#define HEADLIGHT_SERVER_MODELS_MODEL_LOG_H_

#include "server/models/loaded_model.h"

namespace headlight {

// Writes what a model that serves from now on is.
void LogModel(const LoadedModel& model);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MODEL_LOG_H_
