// SPDX-License-Identifier: Apache-2.0
//
// A request and what a server answers to it, as recordings keep them.
#ifndef HEADLIGHT_CLIENT_RECORD_EXCHANGE_H_
#define HEADLIGHT_CLIENT_RECORD_EXCHANGE_H_

#include <chrono>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "headlight/v1/recording.pb.h"

namespace headlight::client {

// The exchange of `call` and its `reply`: model, version and kernel as the reply says, the rest of the model
// and the server's version as GetModel does, which behind a balancer may be another server's word.
// FAILED_PRECONDITION if the reply has no checksums; else as GetModel.
absl::StatusOr<v1::RecordedExchange> MakeExchange(const Client& client, const AttendCall& call,
                                                  const AttendReply& reply,
                                                  std::chrono::milliseconds timeout);

// Sends `request` as it is, and gives the exchange but for the request. Errors as Client::AttendMessage and
// as above. `timeout` is that of each of its two calls.
absl::StatusOr<v1::RecordedExchange> RepeatRequest(const Client& client, const v1::AttendRequest& request,
                                                   std::chrono::milliseconds timeout);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RECORD_EXCHANGE_H_
