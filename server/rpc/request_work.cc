// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/request_work.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/runtime/cancellation.h"
#include "server/batch/batch_work.h"
#include "server/batch/memory_need.h"
#include "server/batch/work_cost.h"
#include "server/request/check_request.h"
#include "server/wire/received_message.h"

namespace headlight {
namespace {

// Names requests that come without an id.
std::atomic<uint64_t> next_call_id{1};

}  // namespace

RequestWork::RequestWork(const Pipeline& pipeline, const Face& face, const CallFacts& facts)
    : pipeline_(pipeline), face_(face), facts_(facts), arrival_(pipeline.clock.Now()) {
  record_.service = face.service();
  record_.method = face.method();
  if (facts_.identity != nullptr) record_.tenant = facts_.identity->tenant;
  if (facts_.trace) {
    record_.traceparent = ChildOf(*facts_.trace).ToHeader();
    record_.parent_span = facts_.trace->SpanId();
  }
}

absl::StatusOr<std::unique_ptr<Ticket>> RequestWork::MakeTicket(const grpc::ByteBuffer& message,
                                                                Lease memory) {
  auto work = std::make_unique<BatchWork>();
  const auto message_bytes = static_cast<int64_t>(message.Length());
  record_.bytes_in = message_bytes;
  if (!memory.Resize(message_bytes)) {
    HEADLIGHT_ASSIGN_OR_RETURN(memory, pipeline_.memory.Reserve(MemoryKind::kMessage, message_bytes));
  }
  work->message_memory = std::move(memory);
  HEADLIGHT_ASSIGN_OR_RETURN(work->message, Receive(message));
  HEADLIGHT_ASSIGN_OR_RETURN(request_, face_.Read(work->message.segments));
  record_.request_id = request_->fields.request_id;
  HEADLIGHT_RETURN_IF_ERROR(request_->unreadable);
  record_.model = request_->fields.model;
  HEADLIGHT_ASSIGN_OR_RETURN(
      std::shared_ptr<const LoadedModel> model,
      FindModel(request_->fields, ModelView(pipeline_.registry, facts_.identity->models)));
  record_.version = model->version;
  HEADLIGHT_RETURN_IF_ERROR(request_->Fetch(facts_.identity->tenant));
  HEADLIGHT_ASSIGN_OR_RETURN(CheckedRequest checked,
                             CheckRequestTo(std::move(model), request_->fields, pipeline_.max_message_bytes));
  HEADLIGHT_RETURN_IF_ERROR(
      pipeline_.memory.NeverFits(message_bytes + MemoryNeed(checked.input, pipeline_.compute_threads)));
  HEADLIGHT_ASSIGN_OR_RETURN(work->batch_memory,
                             pipeline_.memory.Reserve(MemoryKind::kQueue, BufferNeed(checked.input)));
  record_.tokens = checked.input.q_tokens;
  record_.sequences = checked.input.num_sequences();
  plan_ = std::move(checked.reply);
  auto ticket = std::make_unique<Ticket>();
  ticket->arrival = arrival_;
  ticket->deadline = Deadline(checked.timeout_us);
  ticket->caller = facts_.identity->caller;
  ticket->priority = checked.priority;
  DescribeWork(checked.input, *ticket);
  ticket->held_back = facts_.may_be_held_back && ticket->deadline == TimePoint::max();
  ticket->cancelled = std::make_shared<CancellationToken>();
  work->input = std::move(checked.input);
  work->input.cancelled = ticket->cancelled;
  if (spdlog::should_log(spdlog::level::debug)) {
    spdlog::debug("request method={} id={} arrived: {} bytes, {} tokens", record_.method,
                  Quoted(record_.request_id), record_.bytes_in, record_.tokens);
  }
  ticket->work = std::move(work);
  return ticket;
}

std::optional<Refusal> RequestWork::TakeOfRate(const Ticket& ticket) {
  RateLimit* const rate = facts_.identity->rate.get();
  if (rate == nullptr) return std::nullopt;
  const double seconds = static_cast<double>(pipeline_.scheduler.EstimateTicket(ticket).compute_us) * 1e-6;
  const std::optional<int64_t> wait_us = rate->Take(pipeline_.clock.Now(), seconds);
  if (!wait_us) {
    taken_s_ = seconds;
    return std::nullopt;
  }
  return Refusal{
      absl::ResourceExhaustedError(absl::StrCat("the caller has used up its ", rate->seconds_per_second(),
                                                " seconds of predicted compute time a second")),
      kReasonRateLimited, *wait_us};
}

absl::StatusOr<grpc::ByteBuffer> RequestWork::TakeReply(std::unique_ptr<Ticket> ticket,
                                                        const Outcome& outcome) {
  const bool was_computed = outcome.status.ok() || outcome.compute_us > 0;
  if (taken_s_ > 0 && !was_computed) facts_.identity->rate->GiveBack(taken_s_);
  record_.queue_us = outcome.queue_us;
  record_.predicted_us = outcome.predicted_us;
  record_.compute_us = outcome.compute_us;  // of what was computed in vain
  HEADLIGHT_RETURN_IF_ERROR(outcome.status);
  const BatchResult result = std::move(static_cast<BatchWork&>(*ticket->work).result);
  ticket.reset();  // the request's bytes go before the reply is made
  request_->LetGo();
  const TimePoint begin = pipeline_.clock.Now();
  const ReplyTimes times = {outcome.queue_us, MicrosecondsBetween(arrival_, begin), outcome.predicted_us,
                            pipeline_.compute_threads};
  HEADLIGHT_ASSIGN_OR_RETURN(grpc::ByteBuffer reply, face_.WriteReply(*request_, plan_, result, times));
  record_.pack_us = result.pack_us;
  record_.compute_us = result.compute_us;
  record_.unpack_us = result.unpack_us;
  record_.encode_us = MicrosecondsBetween(begin, pipeline_.clock.Now());
  record_.batch_requests = result.batch_requests;
  record_.batch_sequences = result.batch_sequences;
  record_.batch_tokens = result.batch_tokens;
  record_.bytes_copied = result.copied_bytes;
  record_.bytes_out = static_cast<int64_t>(reply.Length());
  TellRecord();
  return reply;
}

Refusal RequestWork::Explain(Refusal refusal) {
  record_.code = refusal.status.code();
  record_.reason = refusal.reason;
  record_.message = std::string(refusal.status.message());
  if (absl::IsInternal(refusal.status)) {
    refusal.status =
        absl::InternalError(absl::StrCat(record_.message, " (request id ", NameOfRequest(), ")"));
  }
  TellRecord();
  return refusal;
}

std::string RequestWork::NameOfRequest() {
  if (!record_.request_id.empty()) return Quoted(record_.request_id);
  record_.request_id = absl::StrCat("#", next_call_id.fetch_add(1, std::memory_order_relaxed));
  return record_.request_id;
}

void RequestWork::TellRecord() {
  record_.total_us = MicrosecondsBetween(arrival_, pipeline_.clock.Now());
  pipeline_.requests.Emit(record_);
}

std::optional<grpc::ByteBuffer> RequestWork::WriteError(const Refusal& refusal) const {
  return face_.WriteError(request_.get(), refusal);
}

TimePoint RequestWork::Deadline(int64_t timeout_us) const {
  TimePoint deadline = facts_.deadline;
  if (timeout_us > 0) deadline = std::min(deadline, After(arrival_, timeout_us));
  if (deadline == TimePoint::max() && !facts_.may_be_held_back && pipeline_.default_deadline_us > 0) {
    deadline = After(arrival_, pipeline_.default_deadline_us);
  }
  const bool may_have_none = facts_.may_be_held_back && deadline == TimePoint::max();
  if (pipeline_.max_deadline_us > 0 && !may_have_none) {
    deadline = std::min(deadline, After(arrival_, pipeline_.max_deadline_us));
  }
  return deadline;
}

}  // namespace headlight
