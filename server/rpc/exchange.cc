// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/exchange.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "headlight/v1/metadata.h"
#include "server/rpc/guarded.h"
#include "server/rpc/refusals.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

// What of a message may arrive before anybody knows how large it is: HTTP/2's first window. What arrives
// beyond it is ArrivalWatch's.
constexpr int64_t kReadBytes = int64_t{64} << 10;

// Where ORCA wants its report, serialized.
constexpr char kLoadReportTrailer[] = "endpoint-load-metrics-bin";

// Nothing where there is no such header, more than one of them, or none that is valid.
std::optional<TraceContext> TraceOf(const grpc::CallbackServerContext& context) {
  const auto [header, end] = context.client_metadata().equal_range(kTraceparentHeader);
  if (header == end || std::next(header) != end) return std::nullopt;
  return ParseTraceparent({header->second.data(), header->second.size()});
}

// What the headers say. `refusal`: that the caller is nobody who may call.
CallFacts FactsOf(const grpc::CallbackServerContext& context, const Face& face, const Gate& gate,
                  TimePoint deadline, std::optional<Refusal>& refusal) {
  CallFacts facts;
  facts.deadline = deadline;
  facts.trace = TraceOf(context);
  facts.may_be_held_back = !face.rules().unary;
  absl::StatusOr<std::shared_ptr<const Identity>> identity = gate.Admit(context.client_metadata());
  if (identity.ok()) {
    facts.identity = *std::move(identity);
  } else {
    refusal = Refusal{identity.status(), kReasonUnauthenticated, /*retry_after_us=*/0};
  }
  return facts;
}

// 0: the caller did not say.
int64_t AnnouncedBytes(const grpc::CallbackServerContext& context) {
  const auto announced = context.client_metadata().find(v1::kMessageBytesHeader);
  int64_t bytes = 0;
  if (announced == context.client_metadata().end()) return 0;
  return absl::SimpleAtoi({announced->second.data(), announced->second.size()}, &bytes) && bytes > 0 ? bytes
                                                                                                     : 0;
}

// Whose call ends so has no business with how this server is.
bool IsStranger(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

Refusal RefusalOf(absl::Status status) { return {std::move(status), "", /*retry_after_us=*/0}; }

}  // namespace

Exchange* Exchange::Begin(const Pipeline& pipeline, CallLedger& ledger, ArrivalWatch& arrivals,
                          const Face& face, grpc::CallbackServerContext& context) {
  const auto exchange = std::make_shared<Exchange>(pipeline, ledger, arrivals, face, context);
  exchange->self_ = exchange;
  exchange->Start();
  return exchange.get();
}

Exchange::Exchange(const Pipeline& pipeline, CallLedger& ledger, ArrivalWatch& arrivals, const Face& face,
                   grpc::CallbackServerContext& context, const std::string& peer)
    : pipeline_(pipeline),
      ledger_(ledger),
      arrivals_(arrivals),
      face_(face),
      context_(context),
      conduct_(pipeline, context, peer, /*is_for_anybody=*/false),
      facts_(FactsOf(context, face, pipeline.gate, conduct_.deadline(), refused_)),
      connection_(arrivals.Find(peer)),
      state_(face.rules()) {}

void Exchange::Start() {
  std::optional<Refusal> refusal = std::move(refused_);
  if (!refusal) {
    refusal = ledger_.Add(*this);
    in_ledger_ = !refusal;
  }
  if (!refusal && facts_.may_be_held_back) {
    arrivals_.Expect(*connection_, self_, /*leased_bytes=*/0);
    On([](State& state) { return state.HoldReads(true); });
    return ReadWhenThereIsRoom();
  }
  // Known from the headers alone, and cheap: the payload is never read.
  if (!refusal) refusal = pipeline_.scheduler.DecideFromHeaders(facts_.deadline, facts_.identity->caller);
  if (!refusal) refusal = TakeMemoryOfMessage();
  if (refusal)
    refusal = RequestWork(pipeline_, face_, facts_).Explain(*std::move(refusal));  // for the record
  On([&](State& state) { return refusal ? state.End(*std::move(refusal)) : state.Begin(); });
}

std::optional<Refusal> Exchange::TakeMemoryOfMessage() {
  const int64_t announced_bytes = AnnouncedBytes(context_);
  if (announced_bytes > pipeline_.max_message_bytes) {
    return RefusalOf(absl::ResourceExhaustedError(absl::StrCat(
        "got a message of ", announced_bytes, " bytes, wanted at most ", pipeline_.max_message_bytes)));
  }
  absl::StatusOr<Lease> memory =
      pipeline_.memory.Reserve(MemoryKind::kMessage, announced_bytes > 0 ? announced_bytes : kReadBytes);
  if (!memory.ok()) return WithoutTicket(memory.status());
  read_memory_ = *std::move(memory);
  return std::nullopt;
}

void Exchange::End() {
  On([](State& state) { return state.End(ShuttingDown()); });
}

void Exchange::EndIfUnread(TimePoint since) {
  const std::lock_guard lock(mutex_);
  if (writing_since_ < since) context_.TryCancel();
}

void Exchange::EndReading(absl::Status why) {
  Refusal refusal = OutOfMemory(std::move(why));
  On([&](State& state) { return state.End(std::move(refusal)); });
}

void Exchange::BreakOff() {
  const std::lock_guard lock(mutex_);
  if (!done_) context_.TryCancel();
}

void Exchange::OnReadDone(bool ok) {
  if (!ok) {
    arrivals_.End(*connection_, *this, std::nullopt);
    Lease unused = TakeReadMemory();
    return On([&](State& state) {
      const bool nothing_came = face_.rules().unary && state.num_read() == 0;
      return nothing_came ? state.End(EndedEarly()) : state.NoMoreMessages();
    });
  }
  const auto message_bytes = static_cast<int64_t>(incoming_.Length());
  conduct_.MessageCame(message_bytes);
  if (face_.rules().unary) {
    arrivals_.End(*connection_, *this, message_bytes);
  } else {
    arrivals_.Received(*connection_, *this, message_bytes);
  }
  std::optional<uint64_t> number;
  grpc::ByteBuffer message;
  Lease memory = TakeReadMemory();
  On([&](State& state) {
    number = state.MessageCame();
    message.Swap(&incoming_);
    if (!number) return state.Proceed();  // it may have ended since this read began
    under_way_[*number];
    return facts_.may_be_held_back ? state.HoldReads(true) : State::Step();
  });
  if (!number) return;
  Receive(*number, message, std::move(memory));
  if (facts_.may_be_held_back) return ReadWhenThereIsRoom();
  On([](State& state) { return state.Proceed(); });
}

void Exchange::OnWriteDone(bool ok) {
  grpc::ByteBuffer sent;
  On([&](State& state) {
    sent.Swap(&outgoing_);
    writing_since_ = TimePoint::max();
    return state.WriteDone(ok);
  });
}

void Exchange::OnCancel() {
  CancelRequests();
  On([](State& state) { return state.Cancelled(); });
}

void Exchange::OnDone() {
  // From here on nobody but `self` and those who still hold on for a moment know of this.
  const std::shared_ptr<Exchange> self = std::move(self_);
  bool cancelled = false, was_read = false;
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    cancelled = cancelled_;
    was_read = state_.num_read() > 0;
  }
  arrivals_.End(*connection_, *this, std::nullopt);
  TakeReadMemory();  // and back: who hears that this has gone finds its memory free
  conduct_.Ended(cancelled, was_read);
  if (in_ledger_) ledger_.Remove(*this);
}

void Exchange::Receive(uint64_t number, const grpc::ByteBuffer& message, Lease memory) {
  auto work = std::make_unique<RequestWork>(pipeline_, face_, facts_);
  absl::StatusOr<std::unique_ptr<Ticket>> ticket =
      Guarded("request", [&] { return work->MakeTicket(message, std::move(memory)); });
  if (!ticket.ok()) return Refuse(number, *work, WithoutTicket(ticket.status()));
  std::optional<Refusal> refusal = work->TakeOfRate(**ticket);
  if (refusal) return Refuse(number, *work, *std::move(refusal));
  (*ticket)->done = [this, number, work = std::move(work)](std::unique_ptr<Ticket> ended, Outcome outcome) {
    Answer(number, *work, std::move(ended), std::move(outcome));
  };
  const TicketHandle handle = pipeline_.scheduler.Submit(*std::move(ticket));
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = under_way_.find(number);
    if (found == under_way_.end()) return;  // it has been answered
    found->second = handle;
    cancel = cancelled_;
  }
  if (cancel) pipeline_.scheduler.Cancel(handle);
}

void Exchange::Answer(uint64_t number, RequestWork& work, std::unique_ptr<Ticket> ticket, Outcome outcome) {
  absl::StatusOr<grpc::ByteBuffer> reply =
      Guarded("reply", [&] { return work.TakeReply(std::move(ticket), outcome); });
  if (!reply.ok()) {
    if (outcome.status.ok()) return Refuse(number, work, RefusalOf(reply.status()));
    return Refuse(number, work,
                  {std::move(outcome.status), std::move(outcome.reason), outcome.retry_after_us});
  }
  const std::shared_ptr<Exchange> keep = shared_from_this();
  On([&](State& state) {
    under_way_.erase(number);
    return state.Answer(number, *std::move(reply));
  });
}

void Exchange::Refuse(uint64_t number, RequestWork& work, Refusal refusal) {
  refusal = work.Explain(std::move(refusal));
  std::optional<grpc::ByteBuffer> message = work.WriteError(refusal);
  const std::shared_ptr<Exchange> keep = shared_from_this();
  On([&](State& state) {
    under_way_.erase(number);
    return message ? state.Answer(number, *std::move(message)) : state.Fail(number, std::move(refusal));
  });
  if (!message)
    CancelRequests();  // of a stream: whose reply this was cannot be told, so nothing of it counts any more
}

void Exchange::ReadWhenThereIsRoom() {
  if (facts_.deadline != TimePoint::max()) return ReadWhenThereIsMemory();
  const std::weak_ptr<Exchange> weak = weak_from_this();
  pipeline_.scheduler.WhenRoom([weak] {
    if (const std::shared_ptr<Exchange> exchange = weak.lock()) exchange->ReadWhenThereIsMemory();
  });
}

void Exchange::ReadWhenThereIsMemory() {
  if (std::optional<Lease> memory = pipeline_.memory.TryReserve(MemoryKind::kMessage, kReadBytes)) {
    return ReadInto(*std::move(memory));
  }
  const std::weak_ptr<Exchange> weak = weak_from_this();
  pipeline_.memory.WhenRoom(MemoryKind::kMessage, kReadBytes, [weak](absl::StatusOr<Lease> memory) {
    std::shared_ptr<Exchange> exchange = weak.lock();
    if (exchange == nullptr) return;
    // Whoever gave the memory back may hold the lock of another exchange: the read begins on another thread.
    if (memory.ok()) exchange->granted_memory_ = *std::move(memory);
    // The alarm keeps what it has called, and the exchange the alarm: the call lets go of the exchange.
    exchange->granted_.Set(gpr_inf_past(GPR_CLOCK_MONOTONIC), [exchange](bool) mutable {
      const std::shared_ptr<Exchange> self = std::move(exchange);
      self->ReadInto(std::move(self->granted_memory_));
    });
  });
}

void Exchange::ReadInto(Lease memory) {
  On([&](State& state) {
    if (!done_) std::swap(read_memory_, memory);
    return state.HoldReads(false);
  });
}

Lease Exchange::TakeReadMemory() {
  const std::lock_guard lock(mutex_);
  return std::exchange(read_memory_, Lease());
}

Refusal Exchange::WithoutTicket(absl::Status status) const {
  if (absl::IsResourceExhausted(status)) return OutOfMemory(std::move(status));
  if (absl::IsUnavailable(status))
    return {std::move(status), v1::kReasonModelUnavailable, /*retry_after_us=*/0};
  return RefusalOf(std::move(status));
}

Refusal Exchange::OutOfMemory(absl::Status status) const {
  const Backlog backlog = pipeline_.scheduler.GetBacklog();
  const int64_t drain_us = (backlog.waiting_ns + backlog.running_ns) / 1000;
  return {std::move(status), kReasonMemory, std::max(drain_us, kMemoryRetryUs)};
}

void Exchange::CancelRequests() {
  std::vector<TicketHandle> handles;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    for (const auto& [number, handle] : under_way_) {
      if (handle.id != 0) handles.push_back(handle);
    }
  }
  for (TicketHandle handle : handles) pipeline_.scheduler.Cancel(handle);
}

template <typename Event>
void Exchange::On(const Event& event) {
  State::Step step;  // goes after the lock
  const std::lock_guard lock(mutex_);
  step = event(state_);
  Do(step);
}

void Exchange::Do(State::Step& step) {
  if (step.write) {
    outgoing_ = *std::move(step.write);
    writing_since_ = pipeline_.clock.Now();
  }
  if (step.finish) {
    AddTrailers(*step.finish, context_);
    if (pipeline_.load != nullptr && !IsStranger(step.finish->status)) {
      context_.AddTrailingMetadata(kLoadReportTrailer, pipeline_.load->Serialized());
    }
    const grpc::Status status = ToGrpcStatus(*step.finish);
    if (step.write) {
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), status);
    } else {
      Finish(status);
    }
    return;
  }
  if (step.write) StartWrite(&outgoing_);
  if (step.read) {
    arrivals_.Expect(*connection_, shared_from_this(), read_memory_.bytes());
    StartRead(&incoming_);
  }
}

}  // namespace headlight
