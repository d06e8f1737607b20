// SPDX-License-Identifier: Apache-2.0
//
// The way of an AttendRequest up to the scheduler in one call, and a batch of them from messages to messages.
#ifndef HEADLIGHT_TESTS_SERVER_CHECKED_ATTEND_H_
#define HEADLIGHT_TESTS_SERVER_CHECKED_ATTEND_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "headlight/v1/attention.pb.h"
#include "server/batch/batch_executor.h"
#include "server/request/check_request.h"
#include "server/wire/byte_segments.h"

namespace headlight::testing {

// Parses and checks `message`, whose bytes the result points at. Nobody cancels it.
absl::StatusOr<CheckedRequest> CheckAttend(const ByteSegments& message, const RequestLimits& limits);

v1::AttendResponse ParseReply(const grpc::ByteBuffer& reply);

// Computes `requests`, which arrive in pieces of segment_bytes, as one batch. Expects that all of it goes
// well. Replies tell the counts of the batch.
std::vector<v1::AttendResponse> AnswerAsOneBatch(const std::vector<v1::AttendRequest>& requests,
                                                 const ModelRegistry& registry, BatchExecutor& executor,
                                                 size_t segment_bytes);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_CHECKED_ATTEND_H_
