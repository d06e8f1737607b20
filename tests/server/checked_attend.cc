// SPDX-License-Identifier: Apache-2.0
#include "tests/server/checked_attend.h"

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "server/attend/attend_reply.h"
#include "server/attend/attend_request.h"
#include "server/wire/received_message.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {

absl::StatusOr<CheckedRequest> CheckAttend(const ByteSegments& message, const RequestLimits& limits) {
  HEADLIGHT_ASSIGN_OR_RETURN(const ParsedAttend parsed, ParseAttend(message));
  HEADLIGHT_ASSIGN_OR_RETURN(const RequestFields fields, FieldsOf(parsed));
  HEADLIGHT_ASSIGN_OR_RETURN(CheckedRequest checked, CheckRequest(fields, limits));
  checked.input.cancelled = std::make_shared<CancellationToken>();
  return checked;
}

v1::AttendResponse ParseReply(const grpc::ByteBuffer& reply) {
  const auto message = Receive(reply);
  EXPECT_THAT(message, IsOk());
  std::string bytes(message->segments.size_bytes(), '\0');
  message->segments.CopyTo(0, message->segments.size_bytes(),
                           std::as_writable_bytes(std::span(bytes)).data());
  v1::AttendResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  return response;
}

std::vector<v1::AttendResponse> AnswerAsOneBatch(const std::vector<v1::AttendRequest>& requests,
                                                 const ModelRegistry& registry, BatchExecutor& executor,
                                                 size_t segment_bytes) {
  std::vector<std::string> messages;
  for (const v1::AttendRequest& request : requests) messages.push_back(request.SerializeAsString());
  std::vector<CheckedRequest> checked;
  for (const std::string& message : messages) {
    auto one = CheckAttend(Segmented(message, segment_bytes), {registry, 1 << 28});
    EXPECT_THAT(one, IsOk());
    checked.push_back(*std::move(one));
  }
  std::vector<const BatchInput*> inputs;
  for (const CheckedRequest& one : checked) inputs.push_back(&one.input);
  const auto results = executor.Execute(inputs);
  EXPECT_THAT(results, IsOk());
  std::vector<v1::AttendResponse> responses;
  for (size_t i = 0; results.ok() && i < results->size(); ++i) {
    const BatchResult& result = (*results)[i];
    v1::TimeBudget budget;
    budget.set_batch_requests(result.batch_requests);
    budget.set_batch_sequences(result.batch_sequences);
    budget.set_batch_tokens(result.batch_tokens);
    responses.push_back(ParseReply(EncodeAttend(checked[i].reply, result, budget)));
  }
  return responses;
}

}  // namespace headlight::testing
