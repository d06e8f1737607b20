// SPDX-License-Identifier: Apache-2.0
//
// From a result to the bytes of an AttendResponse.
#ifndef HEADLIGHT_SERVER_ATTEND_ATTEND_REPLY_H_
#define HEADLIGHT_SERVER_ATTEND_ATTEND_REPLY_H_

#include <grpcpp/support/byte_buffer.h>

#include "headlight/v1/attention.pb.h"
#include "server/batch/batch_result.h"
#include "server/request/reply_plan.h"

namespace headlight {

// The reply's message, ready to send. Its slices hold on to the result's memory until gRPC has sent them.
grpc::ByteBuffer EncodeAttend(const ReplyPlan& plan, const BatchResult& result, const v1::TimeBudget& budget);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_ATTEND_REPLY_H_
