// SPDX-License-Identifier: Apache-2.0
//
// What a ticket carries through the schedule: the input of a batch with the bytes that it points at, and the
// result.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_WORK_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_WORK_H_

#include "server/batch/batch_input.h"
#include "server/batch/batch_result.h"
#include "server/memory/memory_budget.h"
#include "server/schedule/ticket.h"
#include "server/wire/received_message.h"

namespace headlight {

struct BatchWork final : Work {
  ReceivedMessage message;  // what `input` points at
  BatchInput input;
  BatchResult result;    // filled in by the batch
  Lease message_memory;  // of the message, and of what was read out of it
  Lease batch_memory;    // what the batch may take for this request: BufferNeed
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_WORK_H_
