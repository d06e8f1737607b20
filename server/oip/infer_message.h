// SPDX-License-Identifier: Apache-2.0
//
// A ModelInferRequest taken apart: its tensors stay where the network left them.
#ifndef HEADLIGHT_SERVER_OIP_INFER_MESSAGE_H_
#define HEADLIGHT_SERVER_OIP_INFER_MESSAGE_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "inference/grpc_service.pb.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// A request whose wire form is sound and nothing more.
struct ParsedInfer {
  inference::ModelInferRequest request;  // without raw_input_contents, and its inputs without contents
  std::vector<ByteSegments> raw;         // inside the received message, as are the next ones
  std::vector<std::optional<ByteSegments>> contents;  // of each input; nothing where it has none
};

// INVALID_ARGUMENT as ScanEnvelope, and where protobuf cannot read the rest.
absl::StatusOr<ParsedInfer> ParseInfer(const ByteSegments& message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_INFER_MESSAGE_H_
