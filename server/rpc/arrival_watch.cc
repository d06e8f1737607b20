// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/arrival_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// While bytes arrive, and while nothing does: a fast sender adds some megabytes between two looks.
constexpr std::chrono::milliseconds kOften{2};
constexpr std::chrono::milliseconds kSeldom{10};
constexpr int kLooksBeforeRest = 100;

// What comes with a message at most, headers and frames and all. Rather too much: a call's share that is not
// counted off would look like bytes that never become a message.
constexpr int64_t kFrameBytes = 16384;
constexpr int64_t kFrameHeaderBytes = 9;
constexpr int64_t kCallBytes = 512;

// What the system keeps for a connection before gRPC has it.
constexpr int64_t kSocketBytes = int64_t{8} << 20;

// Less than this is not worth giving anybody up.
constexpr int64_t kNoticeableBytes = int64_t{1} << 20;

// Who was told to end and still reads is broken off.
constexpr std::chrono::seconds kTimeToEnd{1};

constexpr std::chrono::seconds kTidyPeriod{10};
constexpr int kTimesMissing = 2;  // a connection that has just been made may be missing once

int64_t BytesOnTheWire(int64_t message_bytes) {
  return message_bytes + message_bytes / kFrameBytes * kFrameHeaderBytes + kCallBytes;
}

}  // namespace

// All of it is guarded by the watch's lock.
class ArrivalWatch::Connection {
 public:
  struct Read {
    std::weak_ptr<MessageReader> reader;
    const MessageReader* address;
    int64_t leased_bytes;
    int64_t max_bytes;                         // of its message
    TimePoint told_to_end = TimePoint::max();  // max: it was not

    bool IsToldToEnd() const { return told_to_end != TimePoint::max(); }
    // Nobody has told it to end, or it has not heard.
    bool GoesOn(TimePoint now) const { return !IsToldToEnd() || now - told_to_end > kTimeToEnd; }
  };

  size_t NumGoingOn(TimePoint now) const {
    return static_cast<size_t>(
        std::count_if(reads.begin(), reads.end(), [now](const Read& read) { return read.GoesOn(now); }));
  }

  // Those that go on, the latest first: of large messages, since ending others would free next to nothing,
  // unless there are no others.
  std::vector<Read*> WorthEnding(TimePoint now) {
    std::vector<Read*> large, small;
    for (auto read = reads.rbegin(); read != reads.rend(); ++read) {
      if (read->GoesOn(now)) (read->max_bytes > kNoticeableBytes ? large : small).push_back(&*read);
    }
    return large.empty() ? small : large;
  }

  std::vector<Read>::iterator Find(const MessageReader& reader) {
    return std::find_if(reads.begin(), reads.end(),
                        [&](const Read& read) { return read.address == &reader; });
  }

  std::vector<Read> reads;      // the eldest first
  int64_t leased_bytes = 0;     // of all reads
  int64_t received_bytes = 0;   // at the last look
  int64_t accounted_bytes = 0;  // of those, what is no part of a message that is arriving
  int64_t arriving_bytes = 0;   // the others
  int64_t uncovered_bytes = 0;  // of those, what no reader holds a lease for and will stay
  bool settled = false;         // nobody expected anything at some time since the last look
  int64_t settled_bytes = 0;    // what has been handed over since then
  TimePoint moved;              // when something had been received last
  int times_missing = 0;
};

ArrivalWatch::ArrivalWatch(MemoryBudget& memory, const Clock& clock, ReceivedBytes received,
                           const Options& options)
    : memory_(memory), clock_(clock), received_(std::move(received)), options_(options) {}

ArrivalWatch::~ArrivalWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ArrivalWatch::Start() {
  thread_ = std::thread([this] { Run(); });
}

void ArrivalWatch::Run() {
  int quiet_looks = 0;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (num_readers_ == 0 && quiet_looks >= kLooksBeforeRest) {
      resting_ = true;
      wake_.wait(lock, [this] { return stopping_ || num_readers_ > 0; });
      resting_ = false;
    }
    wake_.wait_for(lock, quiet_looks == 0 ? kOften : kSeldom, [this] { return stopping_; });
    lock.unlock();
    quiet_looks = Look() ? 0 : std::min(quiet_looks + 1, kLooksBeforeRest);
    lock.lock();
  }
}

std::shared_ptr<ArrivalWatch::Connection> ArrivalWatch::Find(const std::string& peer) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Connection>& connection = connections_[peer];
  if (connection == nullptr) connection = std::make_shared<Connection>();
  return connection;
}

void ArrivalWatch::Expect(Connection& connection, const std::shared_ptr<MessageReader>& reader,
                          int64_t leased_bytes, std::optional<int64_t> max_bytes) {
  const std::lock_guard lock(mutex_);
  auto read = connection.Find(*reader);
  if (read == connection.reads.end()) {
    read = connection.reads.insert(read,
                                   {reader, reader.get(), 0, max_bytes.value_or(options_.max_message_bytes)});
    ++num_readers_;
    if (resting_) wake_.notify_all();
  }
  connection.leased_bytes += leased_bytes - std::exchange(read->leased_bytes, leased_bytes);
}

void ArrivalWatch::Account(Connection& connection, int64_t bytes) {
  connection.arriving_bytes = std::max<int64_t>(0, connection.arriving_bytes - bytes);
  connection.accounted_bytes += bytes;
  connection.settled_bytes += bytes;
}

void ArrivalWatch::Received(Connection& connection, const MessageReader& reader, int64_t message_bytes) {
  const std::lock_guard lock(mutex_);
  const auto read = connection.Find(reader);
  if (read == connection.reads.end()) return;
  connection.leased_bytes -= std::exchange(read->leased_bytes, 0);
  Account(connection, BytesOnTheWire(message_bytes));
}

void ArrivalWatch::End(Connection& connection, const MessageReader& reader,
                       std::optional<int64_t> message_bytes) {
  const std::lock_guard lock(mutex_);
  const auto read = connection.Find(reader);
  if (read == connection.reads.end()) return;
  // What had come of a message that will not be whole is taken for an equal part of what is arriving.
  Account(connection, message_bytes
                          ? BytesOnTheWire(*message_bytes)
                          : connection.arriving_bytes / static_cast<int64_t>(connection.reads.size()));
  connection.leased_bytes -= read->leased_bytes;
  connection.reads.erase(read);
  --num_readers_;
  if (!connection.reads.empty()) return;
  connection.settled = true;
  connection.settled_bytes = 0;
}

int64_t ArrivalWatch::Measure(Connection& connection, const std::string& peer, TimePoint now) {
  connection.arriving_bytes = 0;
  connection.uncovered_bytes = 0;
  if (connection.reads.empty()) return 0;
  const std::optional<int64_t> received = received_(peer);
  if (!received) return 0;
  if (std::exchange(connection.settled, false)) {
    // Nothing was arriving at that time, and what had been received at the last look was so before.
    connection.accounted_bytes =
        std::max(connection.accounted_bytes, connection.received_bytes + connection.settled_bytes);
  }
  if (*received != connection.received_bytes) connection.moved = now;
  connection.received_bytes = *received;
  connection.accounted_bytes = std::min(connection.accounted_bytes, *received);
  connection.arriving_bytes = *received - connection.accounted_bytes;
  const int64_t staying_bytes = connection.arriving_bytes * static_cast<int64_t>(connection.NumGoingOn(now)) /
                                static_cast<int64_t>(connection.reads.size());
  connection.uncovered_bytes = std::max<int64_t>(0, staying_bytes - connection.leased_bytes);
  return connection.uncovered_bytes;
}

absl::Status ArrivalWatch::WhyGiveUp(const Connection& connection, TimePoint now) const {
  int64_t most_bytes = 0, largest = 0;
  for (const Connection::Read& read : connection.reads) {
    most_bytes += BytesOnTheWire(read.max_bytes);
    largest = std::max(largest, read.max_bytes);
  }
  if (connection.arriving_bytes > most_bytes + kSocketBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "got a message of more than ", largest, " bytes, wanted at most so many; it was still arriving"));
  }
  if (connection.uncovered_bytes > kNoticeableBytes && now - connection.moved > options_.patience) {
    return absl::ResourceExhaustedError(
        absl::StrCat("nothing more of the message has come for ",
                     std::chrono::duration_cast<std::chrono::seconds>(options_.patience).count(), " s"));
  }
  return absl::OkStatus();
}

void ArrivalWatch::GiveUp(Connection& connection, Share share, const absl::Status& why, TimePoint now,
                          std::vector<Ending>& endings) {
  std::vector<Connection::Read*> chosen = connection.WorthEnding(now);
  if (share == Share::kHalf) chosen.resize((chosen.size() + 1) / 2);
  for (Connection::Read* read : chosen) {
    endings.push_back({read->reader, read->IsToldToEnd() ? absl::OkStatus() : why});
    read->told_to_end = now;
  }
}

void ArrivalWatch::GiveUpForMemory(int64_t wanted_bytes, TimePoint now, std::vector<Ending>& endings) {
  Connection* largest = nullptr;
  for (const auto& [peer, connection] : connections_) {
    if (largest == nullptr || connection->uncovered_bytes > largest->uncovered_bytes) {
      largest = connection.get();
    }
  }
  if (largest == nullptr || largest->uncovered_bytes == 0) return;
  const absl::Status why = absl::ResourceExhaustedError(
      absl::StrCat("memory is short: messages that are arriving take ", wanted_bytes,
                   " bytes, of which this connection's ", largest->uncovered_bytes, "; requests may hold ",
                   memory_.limit_of_requests(), " in all"));
  GiveUp(*largest, Share::kHalf, why, now, endings);
}

void ArrivalWatch::ForgetClosed(TimePoint now) {
  if (now - tidied_ < kTidyPeriod) return;
  tidied_ = now;
  for (auto at = connections_.begin(); at != connections_.end();) {
    auto& [peer, connection] = *at;
    connection->times_missing = received_(peer) ? 0 : connection->times_missing + 1;
    const bool in_use = connection.use_count() > 1;
    at = !in_use && connection->times_missing >= kTimesMissing ? connections_.erase(at) : std::next(at);
  }
}

bool ArrivalWatch::Look() {
  const TimePoint now = clock_.Now();
  std::vector<Ending> endings;
  int64_t uncovered_bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [peer, connection] : connections_) {
      uncovered_bytes += Measure(*connection, peer, now);
      const absl::Status why = WhyGiveUp(*connection, now);
      if (!why.ok()) GiveUp(*connection, Share::kAll, why, now, endings);
    }
    ForgetClosed(now);
  }
  if (!Take(uncovered_bytes)) {
    const std::lock_guard lock(mutex_);
    GiveUpForMemory(uncovered_bytes, now, endings);
  }
  for (Ending& ending : endings) {
    const std::shared_ptr<MessageReader> reader = ending.reader.lock();
    if (reader == nullptr) continue;
    ending.why.ok() ? reader->BreakOff() : reader->EndReading(std::move(ending.why));
  }
  return uncovered_bytes > 0;
}

bool ArrivalWatch::Take(int64_t bytes) {
  if (arriving_.Resize(bytes)) return true;
  if (arriving_.bytes() > 0) return false;
  std::optional<Lease> lease = memory_.TryReserve(MemoryKind::kMessage, bytes);
  if (lease) arriving_ = *std::move(lease);
  return lease.has_value();
}

}  // namespace headlight
