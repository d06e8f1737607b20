// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/answer_attend.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/runtime/compute_arena.h"
#include "server/attend/attend_reply.h"
#include "server/attend/attend_request.h"
#include "server/batch/batch_executor.h"
#include "server/models/registry.h"
#include "server/request/check_request.h"

namespace headlight::testing {
namespace {

constexpr int64_t kMaxMessageBytes = 1 << 20;
constexpr int64_t kMaxComputedTokens = 64;
constexpr int64_t kMaxComputedWeights = 1 << 14;
constexpr size_t kSegmentBytes = 37;  // cuts elements in two

ModelConfig LayerConfig() {
  ModelConfig config;
  config.block.attention.embed_dim = 4;
  config.block.attention.num_heads = 2;
  return config;
}

ModelConfig EncoderConfig() {
  ModelConfig config = LayerConfig();
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward = {.hidden_dim = 8, .activation = Activation::kGeluErf};
  config.num_layers = 2;
  config.embedding = {.vocab_size = 10, .num_positions = 16, .num_token_types = 2, .norm = true};
  return config;
}

void Require(bool condition) {
  if (!condition) std::abort();
}

void AddModel(const std::string& name, const ModelConfig& config, ModelRegistry& registry) {
  const ModelConfig resolved = config.Resolved();
  auto model = PackModel(name, "1", "native", resolved, RandomModelParameters(resolved, 1), "");
  Require(model.ok() && registry.Add(*std::move(model)).ok());
}

// The server between the network and gRPC.
class Pipeline {
 public:
  Pipeline() {
    AddModel("a", LayerConfig(), registry_);
    AddModel("e", EncoderConfig(), registry_);
  }

  bool Run(std::span<const std::byte> bytes) {
    ByteSegments message;
    for (size_t begin = 0; begin < bytes.size(); begin += kSegmentBytes) {
      message.Append(bytes.subspan(begin, std::min(kSegmentBytes, bytes.size() - begin)));
    }
    const absl::StatusOr<ParsedAttend> parsed = ParseAttend(message);
    if (!parsed.ok()) return false;
    const absl::StatusOr<RequestFields> fields = FieldsOf(*parsed);
    if (!fields.ok()) return false;
    absl::StatusOr<CheckedRequest> checked = CheckRequest(*fields, {registry_, kMaxMessageBytes});
    if (!checked.ok()) return false;
    BatchInput& input = checked->input;
    if (input.q_tokens + input.kv_tokens > kMaxComputedTokens) return false;
    if (input.weights.num_weights > kMaxComputedWeights) return false;
    input.cancelled = std::make_shared<CancellationToken>();
    const BatchInput* const batch = &input;
    const auto results = executor_.Execute({&batch, 1});
    Require(results.ok());
    const grpc::ByteBuffer reply = EncodeAttend(checked->reply, results->front(), {});
    Require(reply.Length() <= static_cast<size_t>(kMaxMessageBytes));
    return true;
  }

 private:
  ModelRegistry registry_;
  ComputeArena arena_{1};
  BufferPool pool_{/*max_idle_bytes=*/1 << 20};
  AttentionExecutor executor_{arena_, pool_};
};

}  // namespace

bool AnswerAttend(std::span<const std::byte> bytes) {
  static auto& pipeline = *new Pipeline;
  return pipeline.Run(bytes);
}

}  // namespace headlight::testing
