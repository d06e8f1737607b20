// SPDX-License-Identifier: Apache-2.0
//
// Keeps gRPC's callback threads from falling asleep.
#ifndef HEADLIGHT_SERVER_RPC_PULSE_H_
#define HEADLIGHT_SERVER_RPC_PULSE_H_

#include <grpcpp/generic/generic_stub.h>

#include "core/runtime/periodic.h"

namespace headlight {

// Where gRPC has no pollers of its own (1.51 on Linux), the few threads that run callbacks sleep for 100 ms
// each time they have had nothing to do for a second, all at once if it comes so: a request, or the
// cancellation of a long one, then waits for them. While a Pulse lives one of them gets something to do every
// 400 ms, and so one is awake at any time.
class Pulse {
 public:
  Pulse();  // returns after the first beat: within 100 ms where the threads were asleep

 private:
  grpc::GenericStub nowhere_;
  Periodic beats_;  // last: it uses what is above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_PULSE_H_
