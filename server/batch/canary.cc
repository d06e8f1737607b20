// SPDX-License-Identifier: Apache-2.0
#include "server/batch/canary.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <future>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/model/config.h"
#include "core/runtime/cancellation.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_work.h"
#include "server/batch/work_cost.h"
#include "server/schedule/ticket.h"

namespace headlight {
namespace {

// A few tokens and many, twice: of two sizes the schedule learns what a token takes and what a batch takes,
// and a first computation is slower than those that follow. Many are what takes some 20 ms at most.
constexpr int64_t kFewTokens = 4;
constexpr int64_t kManyTokens = 64;
constexpr int64_t kMostFlops = 2'000'000'000;
constexpr int kRounds = 2;

std::vector<int64_t> LengthsFor(const ModelConfig& config) {
  const int64_t longest = config.embedding ? config.embedding->max_seq_len() : kManyTokens;
  const int64_t many = kMostFlops / std::max<int64_t>(ProjectionFlopsPerToken(config), 1);
  std::vector<int64_t> lengths;
  for (int round = 0; round < kRounds; ++round) {
    lengths.push_back(std::min(kFewTokens, longest));
    lengths.push_back(std::min(std::clamp(many, kFewTokens, kManyTokens), longest));
  }
  return lengths;
}

// What goes in: zeros, or numbers of which every weight of a model makes something.
enum class Pattern : uint8_t { kZeros, kVaried };

// One sequence. Points into `values`, which it makes as large as it must be.
BatchInput CanaryInput(const std::shared_ptr<const LoadedModel>& model, int64_t tokens, Pattern pattern,
                       std::vector<float>& values) {
  const ModelConfig& config = model->model.config();
  const AttentionConfig& attention = config.block.attention;
  BatchInput input;
  input.model = model;
  input.q_lens = input.kv_lens = {tokens};
  input.q_tokens = input.kv_tokens = tokens;
  if (config.embedding) {
    input.kind = InputKind::kTokenIds;
    input.token_ids.assign(static_cast<size_t>(tokens), 0);
    for (int64_t i = 0; pattern == Pattern::kVaried && i < tokens; ++i) {
      input.token_ids[static_cast<size_t>(i)] = static_cast<int32_t>(i * 7919 % config.embedding->vocab_size);
    }
    return input;
  }
  values.resize(
      static_cast<size_t>(tokens * std::max({attention.embed_dim, attention.kdim, attention.vdim})));
  for (size_t i = 0; pattern == Pattern::kVaried && i < values.size(); ++i) {
    values[i] = (static_cast<float>(i * 37 % 17) - 8) / 8;
  }
  const auto fill = [&](InputRows& rows, int64_t width) {
    rows.bytes.Append(std::as_bytes(std::span(values).first(static_cast<size_t>(tokens * width))));
  };
  fill(input.query, attention.embed_dim);
  if (attention.kdim != attention.embed_dim || attention.vdim != attention.embed_dim) {
    input.kind = InputKind::kKeyAndValue;
    fill(input.key, attention.kdim);
    fill(input.value, attention.vdim);
  }
  return input;
}

// The bytes of the outputs, which are finite.
absl::StatusOr<std::string> Compute(const std::shared_ptr<const LoadedModel>& model, int64_t tokens,
                                    Pattern pattern, Scheduler& scheduler, const Clock& clock) {
  std::vector<float> values;
  auto work = std::make_unique<BatchWork>();
  auto ticket = std::make_unique<Ticket>();
  work->input = CanaryInput(model, tokens, pattern, values);
  const auto num_outputs =
      static_cast<size_t>(work->input.num_outputs(model->model.config().block.attention.embed_dim));
  ticket->arrival = clock.Now();
  ticket->held_back = true;  // it may wait, but is not refused because the server is busy
  ticket->cancelled = std::make_shared<CancellationToken>();
  work->input.cancelled = ticket->cancelled;
  DescribeWork(work->input, *ticket);
  ticket->work = std::move(work);
  std::promise<absl::StatusOr<std::string>> ended;
  ticket->done = [&](std::unique_ptr<Ticket> computed, Outcome outcome) {
    if (!outcome.status.ok()) return ended.set_value(std::move(outcome.status));
    const BatchResult& result = static_cast<BatchWork&>(*computed->work).result;
    const std::span outputs(static_cast<const float*>(result.output.get()), num_outputs);
    if (!std::all_of(outputs.begin(), outputs.end(), [](float value) { return std::isfinite(value); })) {
      return ended.set_value(
          absl::InternalError(absl::StrCat("model ", Quoted(model->name), ": its outputs for ", tokens,
                                           " tokens of ", pattern == Pattern::kZeros ? "zeros" : "the canary",
                                           " are not finite; its parameters cannot be right")));
    }
    ended.set_value(std::string(static_cast<const char*>(result.output.get()), outputs.size_bytes()));
  };
  scheduler.Submit(std::move(ticket));
  return ended.get_future().get();
}

}  // namespace

absl::Status ComputeCanary(const std::shared_ptr<const LoadedModel>& model, Scheduler& scheduler,
                           const Clock& clock) {
  scheduler.Introduce(CostClassOf(*model),
                      CostPriorOf(model->model.config(), model->model.attention().parameters_precision()));
  for (const int64_t tokens : LengthsFor(model->model.config()))
    HEADLIGHT_RETURN_IF_ERROR(Compute(model, tokens, Pattern::kZeros, scheduler, clock).status());
  return absl::OkStatus();
}

absl::StatusOr<std::string> ComputeCanaryBits(const std::shared_ptr<const LoadedModel>& model,
                                              Scheduler& scheduler, const Clock& clock) {
  const int64_t tokens = LengthsFor(model->model.config()).front();
  return Compute(model, tokens, Pattern::kVaried, scheduler, clock);
}

}  // namespace headlight
