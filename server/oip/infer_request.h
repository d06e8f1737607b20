// SPDX-License-Identifier: Apache-2.0
//
// From a ModelInferRequest to the fields that every protocol shares. Raw tensors are not copied.
#ifndef HEADLIGHT_SERVER_OIP_INFER_REQUEST_H_
#define HEADLIGHT_SERVER_OIP_INFER_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/memory/buffer_pool.h"
#include "server/oip/infer_message.h"
#include "server/oip/output_names.h"
#include "server/oip/tensor_regions.h"
#include "server/request/face.h"
#include "server/wire/byte_segments.h"

namespace headlight {

// Where the bytes of requests go and come from beside messages.
struct InferMemory {
  BufferPool* pool = nullptr;              // never null: of what is decoded
  const TensorRegions* regions = nullptr;  // null: there is no shared memory
};

class InferRequest final : public FaceRequest {
 public:
  // Fills in the id at least; `unreadable` says what is wrong with the rest.
  InferRequest(ParsedInfer parsed, const InferMemory& memory);

  absl::Status Fetch(const std::string& tenant) override;
  void LetGo() override;

  // What the reply holds, in its order.
  const std::vector<AskedTensor>& tensors() const { return tensors_; }
  const std::string& tenant() const { return tenant_; }

 private:
  // One of the request's inputs.
  struct Input {
    const char* name = "";  // as the protocol has it
    WireDType dtype;
    std::span<const int64_t> shape;
    const ByteSegments* raw = nullptr;       // null where the next two say, or it has none
    const ByteSegments* contents = nullptr;  // typed
    std::optional<TensorPlace> place;
    ByteSegments bytes;  // of the last two, once they were fetched

    const ByteSegments* payload() const;
  };
  absl::Status Read();
  absl::Status ReadInputs();
  absl::Status ReadInput(size_t index, size_t& num_raw);
  absl::Status MeetPayloads(size_t num_raw);
  absl::Status ReadOutputs();
  absl::Status FetchBytes(Input& input);
  static absl::Status CheckSize(const Input& input);  // of one that has a place
  absl::Status Decode(Input& input);
  absl::Status ReadLists();
  absl::Status ReadMask(const Input& mask);
  absl::StatusOr<std::byte*> Own(int64_t size_bytes);
  const Input* Find(const char* name) const;

  ParsedInfer parsed_;
  const InferMemory memory_;
  std::vector<Input> inputs_;  // in the request's order; fields.tensors point into it
  std::vector<AskedTensor> tensors_;
  std::string tenant_;
  std::vector<std::shared_ptr<const void>> owned_;  // what inputs' bytes point at beside the message
  std::vector<int64_t> heads_, layers_;
  std::vector<int64_t> seq_lens_;
  std::vector<int64_t> kv_seq_lens_;
  std::vector<int64_t> positions_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_INFER_REQUEST_H_
