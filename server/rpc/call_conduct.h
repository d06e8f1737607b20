// SPDX-License-Identifier: Apache-2.0
//
// What one call tells of the conduct of its connection, from its headers to its end.
#ifndef HEADLIGHT_SERVER_RPC_CALL_CONDUCT_H_
#define HEADLIGHT_SERVER_RPC_CALL_CONDUCT_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "server/rpc/connection_conduct.h"
#include "server/rpc/pipeline.h"
#include "server/schedule/clock.h"

namespace headlight {

// Nothing happens where nobody watches the connection. Thread-safe once it is made.
class CallConduct {
 public:
  // The call of `context` has begun, from `peer`. Headers of 8 times the limit end the connection.
  // `is_for_anybody`: without a token too, so that it is no reason for a connection to receive much.
  CallConduct(const Pipeline& pipeline, const grpc::CallbackServerContext& context, const std::string& peer,
              bool is_for_anybody);

  TimePoint deadline() const { return deadline_; }  // the caller's

  void MessageCame(int64_t bytes);

  // Once. `was_read`: a message of it has come before it was cancelled.
  void Ended(bool cancelled, bool was_read);

 private:
  const Pipeline& pipeline_;
  const TimePoint began_;
  const TimePoint deadline_;
  const std::shared_ptr<ConnectionConduct> connection_;  // null: nobody watches it
  const bool is_open_;                                   // may bring much, until it ends
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CALL_CONDUCT_H_
