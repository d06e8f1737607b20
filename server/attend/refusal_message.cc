// SPDX-License-Identifier: Apache-2.0
#include "server/attend/refusal_message.h"

#include "server/wire/grpc_status.h"

namespace headlight {

v1::AttendError ErrorOf(const Refusal& refusal) {
  const grpc::Status status = ToGrpcStatus(refusal.status);
  v1::AttendError error;
  error.set_code(status.error_code());
  error.set_message(status.error_message());
  error.set_reason(refusal.reason);
  error.set_retry_delay_ms(RetryDelayMs(refusal));
  return error;
}

}  // namespace headlight
