// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/load_service.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/wire/control_message.h"
#include "server/wire/grpc_status.h"

namespace headlight {
namespace {

using xds::service::orca::v3::OrcaLoadReportRequest;

constexpr int64_t kLeastIntervalMs = 1000;
constexpr int64_t kMostIntervalMs = 3'600'000;

// How late a report may be. One thread for all streams: they are few, and wait for nothing else.
constexpr std::chrono::milliseconds kTick{250};

std::chrono::milliseconds IntervalOf(const OrcaLoadReportRequest& request) {
  const int64_t seconds = std::clamp<int64_t>(request.report_interval().seconds(), 0, kMostIntervalMs / 1000);
  const int64_t asked_ms = seconds * 1000 + request.report_interval().nanos() / 1'000'000;
  return std::chrono::milliseconds(std::clamp(asked_ms, kLeastIntervalMs, kMostIntervalMs));
}

}  // namespace

// Writes, waits and ends from different threads; mutex_ makes them agree. Operations of gRPC are started with
// it held, as those of Exchange are.
class LoadService::Stream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public LedgerEntry {
 public:
  Stream(LoadService& service, grpc::CallbackServerContext& context, std::chrono::milliseconds interval)
      : service_(service), context_(context), interval_(interval) {}

  // `refusal`: why it ends before it has begun.
  void Start(std::optional<grpc::Status> refusal) {
    if (!refusal) {
      if (std::optional<Refusal> early = service_.ledger_.Add(*this)) refusal = ToGrpcStatus(*early);
      in_ledger_ = !refusal;
    }
    if (refusal) return EndWith(*std::move(refusal));
    const TimePoint now = service_.clock_.Now();
    {
      const std::lock_guard lock(mutex_);
      due_ = now;
    }
    WriteIfDue(now);
  }

  void WriteIfDue(TimePoint now) {
    const std::lock_guard lock(mutex_);
    if (writing_ || ending_ || now < due_) return;
    due_ = std::max(due_ + interval_, now);
    report_ = WriteControlMessage(service_.reporter_.Report());
    writing_ = true;
    writing_since_ = now;
    StartWrite(&report_);
  }

  void End() override { EndWith(ToGrpcStatus(ShuttingDown())); }

  void EndIfUnread(TimePoint since) override {
    const std::lock_guard lock(mutex_);
    if (writing_ && !ending_ && writing_since_ < since) context_.TryCancel();
  }

 private:
  // Once; what is being written is awaited.
  void EndWith(grpc::Status status) {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    ending_ = true;
    status_ = std::move(status);
    if (!writing_) Finish(status_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (ending_) return Finish(status_);
    if (ok) return;
    ending_ = true;
    Finish(grpc::Status::CANCELLED);
  }

  void OnCancel() override { EndWith(grpc::Status::CANCELLED); }

  void OnDone() override {
    if (in_ledger_) service_.ledger_.Remove(*this);
    service_.Remove(this);
  }

  LoadService& service_;
  grpc::CallbackServerContext& context_;
  const std::chrono::milliseconds interval_;
  bool in_ledger_ = false;  // set once, before the first reaction
  std::mutex mutex_;
  // Guarded by mutex_; report_ not while it is being written:
  TimePoint due_ = TimePoint::max();  // max: it has not begun
  TimePoint writing_since_;
  bool writing_ = false;
  bool ending_ = false;
  grpc::Status status_;
  grpc::ByteBuffer report_;
};

LoadService::LoadService(LoadReporter& reporter, CallLedger& ledger, const Clock& clock, const Gate& gate)
    : reporter_(reporter), ledger_(ledger), clock_(clock), gate_(gate), ticks_(kTick, [this] {
        WriteDue();
      }) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* LoadService::StreamCoreMetrics(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* message) {
  absl::Status status = gate_.Admit(context->client_metadata()).status();
  OrcaLoadReportRequest request;
  if (status.ok()) status = ReadControlMessage(*message, request);
  const auto stream = std::make_shared<Stream>(*this, *context, IntervalOf(request));
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    full = streams_.size() >= kMaxStreams;
    streams_.emplace(stream.get(), stream);
  }
  std::optional<grpc::Status> refusal;
  if (!status.ok()) {
    refusal = ToGrpcStatus(status);
  } else if (full) {
    refusal = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                           absl::StrCat("there are ", kMaxStreams, " streams of load reports already"));
  }
  stream->Start(std::move(refusal));
  return stream.get();
}

void LoadService::WriteDue() {
  std::vector<std::shared_ptr<Stream>> streams;  // a stream that ends meanwhile stays until it was looked at
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, stream] : streams_) streams.push_back(stream);
  }
  const TimePoint now = clock_.Now();
  for (const std::shared_ptr<Stream>& stream : streams) stream->WriteIfDue(now);
}

void LoadService::Remove(Stream* stream) {
  std::shared_ptr<Stream> last;  // goes after the lock
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(stream);
  last = std::move(found->second);
  streams_.erase(found);
}

}  // namespace headlight
