// SPDX-License-Identifier: Apache-2.0
#include "server/oip/infer_message.h"

#include <utility>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "server/wire/envelope.h"

namespace headlight {

absl::StatusOr<ParsedInfer> ParseInfer(const ByteSegments& message) {
  using Request = inference::ModelInferRequest;
  static const EnvelopeFormat& format =
      *new EnvelopeFormat{.message_name = "ModelInferRequest",
                          .payload_field = Request::kRawInputContentsFieldNumber,
                          .max_envelope_bytes = int64_t{256} << 10,
                          .max_payloads = 64,
                          .payloads_name = "raw_input_contents",
                          .part_field = Request::kInputsFieldNumber,
                          .part_payload_field = Request::InferInputTensor::kContentsFieldNumber,
                          .part_payload_name = "inputs.contents"};
  HEADLIGHT_ASSIGN_OR_RETURN(Envelope envelope, ScanEnvelope(message, format));
  ParsedInfer parsed;
  if (!parsed.request.ParseFromArray(envelope.fields.data(), static_cast<int>(envelope.fields.size()))) {
    return absl::InvalidArgumentError(
        "ModelInferRequest: protobuf cannot read its fields; wanted a message of "
        "inference.ModelInferRequest");
  }
  parsed.request.DiscardUnknownFields();  // which would stay, many times as large, until the reply
  parsed.raw = std::move(envelope.payloads);
  parsed.contents = std::move(envelope.part_payloads);
  return parsed;
}

}  // namespace headlight
