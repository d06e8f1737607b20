// SPDX-License-Identifier: Apache-2.0
//
// attention.proto's names of poolings.
#ifndef HEADLIGHT_SERVER_ATTEND_POOLING_MODES_H_
#define HEADLIGHT_SERVER_ATTEND_POOLING_MODES_H_

#include <optional>

#include "core/model/config.h"
#include "headlight/v1/attention.pb.h"

namespace headlight {

v1::PoolingMode ToProto(Pooling pooling);
// Nothing if the mode names no single pooling, or is none that the proto knows.
std::optional<Pooling> FromProto(v1::PoolingMode mode);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_POOLING_MODES_H_
