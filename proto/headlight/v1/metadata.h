// SPDX-License-Identifier: Apache-2.0
//
// The part of the wire contract that travels beside messages: keys of gRPC's metadata.
#ifndef HEADLIGHT_V1_METADATA_H_
#define HEADLIGHT_V1_METADATA_H_

namespace headlight::v1 {

// Request header: how many bytes the message of a unary call has, so that a server can refuse it, or have
// memory for it, before it comes.
inline constexpr char kMessageBytesHeader[] = "headlight-message-bytes";

// Trailer by which gRPC's own retries let a server say when to come again; milliseconds, or below 0: not at
// all.
inline constexpr char kPushbackTrailer[] = "grpc-retry-pushback-ms";

// Trailer that says why a call was refused, in the word of AttendError.reason.
inline constexpr char kReasonTrailer[] = "headlight-reason";
// UNAVAILABLE for the sake of one model, of which no version could be loaded: the server itself is well.
inline constexpr char kReasonModelUnavailable[] = "model_unavailable";

}  // namespace headlight::v1

#endif  // HEADLIGHT_V1_METADATA_H_
