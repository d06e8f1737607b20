// SPDX-License-Identifier: Apache-2.0
//
// What OpenTelemetry's SDK has to say goes to our log.
#ifndef HEADLIGHT_SERVER_OBSERVE_SDK_MESSAGES_H_
#define HEADLIGHT_SERVER_OBSERVE_SDK_MESSAGES_H_

namespace headlight {

// From now on and for the whole process: its warnings and errors, at level warn, one a second at most. Call
// it before the SDK has threads.
void SendSdkMessagesToLog();

// Whether the SDK has had an error to tell on this thread since it was last asked for.
bool TakeSdkError();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_SDK_MESSAGES_H_
