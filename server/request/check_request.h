// SPDX-License-Identifier: Apache-2.0
//
// A request's fields held against the model and the server's limits: every size against every other, so
// nothing behind has to check. Tensors are not copied. The same checks, and the same sentences, for every
// protocol.
#ifndef HEADLIGHT_SERVER_REQUEST_CHECK_REQUEST_H_
#define HEADLIGHT_SERVER_REQUEST_CHECK_REQUEST_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "server/batch/batch_input.h"
#include "server/models/model_view.h"
#include "server/request/reply_plan.h"
#include "server/request/request_fields.h"

namespace headlight {

// What the server allows, and holds as the caller sees it.
struct RequestLimits {
  ModelView models;
  int64_t max_message_bytes;
};

struct CheckedRequest {
  BatchInput input;  // its bytes are those that the fields point at
  ReplyPlan reply;
  int64_t timeout_us = 0;  // 0: no limit of its own
  int priority = 0;        // -10..10
};

// The model that `fields` name. INVALID_ARGUMENT, NOT_FOUND and UNAVAILABLE as attention.proto says.
absl::StatusOr<std::shared_ptr<const LoadedModel>> FindModel(const RequestFields& fields,
                                                             const ModelView& models);

// Checks all that attention.proto promises. A tensor that is only described passes unseen where its bytes
// would be looked at; such an input must not be computed. INVALID_ARGUMENT, NOT_FOUND and UNAVAILABLE as that
// file says; the message names the field, what it got and what it wanted.
absl::StatusOr<CheckedRequest> CheckRequest(const RequestFields& fields, const RequestLimits& limits);

// The same of `model`, where it was found already.
absl::StatusOr<CheckedRequest> CheckRequestTo(std::shared_ptr<const LoadedModel> model,
                                              const RequestFields& fields, int64_t max_message_bytes);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_CHECK_REQUEST_H_
