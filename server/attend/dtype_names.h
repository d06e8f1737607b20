// SPDX-License-Identifier: Apache-2.0
//
// Element types as headlight.v1 has them.
#ifndef HEADLIGHT_SERVER_ATTEND_DTYPE_NAMES_H_
#define HEADLIGHT_SERVER_ATTEND_DTYPE_NAMES_H_

#include "core/tensor/dtype.h"
#include "headlight/v1/attention.pb.h"
#include "server/request/request_fields.h"
#include "server/wire/wire_tensor.h"

namespace headlight {

v1::DType ToProto(DType dtype);

// Without a type where the number is none of ours; "17, which is no DType" then stands in its place.
WireDType FromProto(v1::DType dtype);

// "DTYPE_F32" and what else messages to callers of headlight.v1 name.
extern const FieldNames kAttendNames;

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_DTYPE_NAMES_H_
