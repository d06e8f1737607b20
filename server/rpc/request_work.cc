// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/request_work.h"

#include <spdlog/spdlog.h>

#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "server/rpc/attention_service.h"

namespace headlight {
namespace {

// gRPC tells deadlines by the wall clock, the scheduler by a clock that nobody sets.
TimePoint ToTimePoint(std::chrono::system_clock::time_point deadline, TimePoint now) {
  if (deadline == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  const auto left = deadline - std::chrono::system_clock::now();
  return left >= TimePoint::max() - now ? TimePoint::max() : now + left;
}

}  // namespace

AttendWork::AttendWork(const ServiceContext& service, std::atomic<uint64_t>& next_call_id,
                       std::chrono::system_clock::time_point deadline,
                       std::shared_ptr<const CancellationToken> cancelled)
    : service_(service),
      next_call_id_(next_call_id),
      arrival_(service.clock.Now()),
      deadline_(ToTimePoint(deadline, arrival_)),
      cancelled_(std::move(cancelled)) {}

absl::Status AttendWork::Submit(const grpc::ByteBuffer& request, std::function<void()> done) {
  try {
    HEADLIGHT_ASSIGN_OR_RETURN(message_, Receive(request));
    HEADLIGHT_ASSIGN_OR_RETURN(const ParsedAttend parsed, ParseAttend(message_.segments));
    request_id_ = parsed.request.request_id();
    named_ = true;
    const CodecContext codec = {service_.registry, service_.max_message_bytes};
    HEADLIGHT_ASSIGN_OR_RETURN(DecodedAttend decoded, DecodeAttend(parsed, codec));
    layout_ = std::move(decoded.reply);
    AttendTask& task = decoded.task;
    task.arrival = arrival_;
    task.deadline = deadline_;
    task.cancelled = cancelled_;
    task.done = [this, done = std::move(done)](absl::StatusOr<AttendResult> result) {
      result_ = std::move(result);
      done();
    };
    if (spdlog::should_log(spdlog::level::debug)) {
      spdlog::debug("attend id={} arrived: {} bytes, {} tokens", LogId(), parsed.size_bytes, task.q_tokens);
    }
    service_.scheduler.Submit(std::move(task));
    return absl::OkStatus();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("memory is short: the request's lists do not fit");
  }
}

absl::StatusOr<grpc::ByteBuffer> AttendWork::TakeReply() {
  if (!result_.ok()) return result_.status();
  const AttendResult& result = *result_;
  v1::TimeBudget budget;
  budget.set_queue_us(result.queue_us);
  budget.set_compute_us(result.compute_us);
  budget.set_total_us(MicrosecondsBetween(arrival_, service_.clock.Now()));
  budget.set_batch_requests(result.batch_requests);
  budget.set_batch_sequences(result.batch_sequences);
  budget.set_batch_tokens(result.batch_tokens);
  budget.set_kernel(layout_.model->model.attention().kernel_name());
  budget.set_compute_threads(service_.compute_threads);
  grpc::ByteBuffer reply = EncodeAttend(layout_, result, budget);
  result_ = absl::UnknownError("taken");  // from here on the reply alone holds the memory
  if (spdlog::should_log(spdlog::level::debug)) {
    spdlog::debug(
        "attend id={} model={} version={} verdict=OK queue_us={} compute_us={} total_us={} "
        "batch_requests={}",
        LogId(), layout_.model->name, layout_.model->version, budget.queue_us(), budget.compute_us(),
        budget.total_us(), budget.batch_requests());
  }
  return reply;
}

absl::Status AttendWork::Explain(absl::Status status) {
  const bool internal = absl::IsInternal(status);
  const spdlog::level::level_enum level = internal ? spdlog::level::err : spdlog::level::debug;
  // Builds nothing when the line would not be written: refusals are what an overloaded server has most of.
  if (spdlog::should_log(level)) {
    spdlog::log(level, "attend id={} verdict={} message={}", LogId(), absl::StatusCodeToString(status.code()),
                Quoted(std::string(status.message())));
  }
  if (internal) return absl::InternalError(absl::StrCat(status.message(), " (request id ", LogId(), ")"));
  return status;
}

std::string AttendWork::LogId() {
  if (!request_id_.empty()) return Quoted(request_id_);
  if (call_id_ == 0) call_id_ = next_call_id_.fetch_add(1, std::memory_order_relaxed);
  return absl::StrCat("#", call_id_);
}

}  // namespace headlight
