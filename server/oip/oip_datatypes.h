// SPDX-License-Identifier: Apache-2.0
//
// Element types as the Open Inference Protocol calls them.
#ifndef HEADLIGHT_SERVER_OIP_OIP_DATATYPES_H_
#define HEADLIGHT_SERVER_OIP_OIP_DATATYPES_H_

#include <string>

#include "core/tensor/dtype.h"
#include "server/wire/wire_tensor.h"

namespace headlight {

// "FP32", ...
const char* DatatypeOf(DType dtype);

// Without a type where the text names none that this server reads; the text then stands in its place.
WireDType FromDatatype(const std::string& datatype);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_OIP_DATATYPES_H_
