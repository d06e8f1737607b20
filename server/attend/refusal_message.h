// SPDX-License-Identifier: Apache-2.0
//
// Why a request was not computed, as headlight.v1 tells it inside of messages.
#ifndef HEADLIGHT_SERVER_ATTEND_REFUSAL_MESSAGE_H_
#define HEADLIGHT_SERVER_ATTEND_REFUSAL_MESSAGE_H_

#include "headlight/v1/attention.pb.h"
#include "server/schedule/ticket.h"

namespace headlight {

v1::AttendError ErrorOf(const Refusal& refusal);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_REFUSAL_MESSAGE_H_
