// SPDX-License-Identifier: Apache-2.0
//
// What the Open Inference Protocol calls the fields of a request.
#ifndef HEADLIGHT_SERVER_OIP_OIP_NAMES_H_
#define HEADLIGHT_SERVER_OIP_OIP_NAMES_H_

#include "server/request/request_fields.h"

namespace headlight {

// Of parameters their own names: "weights_top_k".
extern const FieldNames kOipNames;

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_OIP_NAMES_H_
