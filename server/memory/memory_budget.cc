// SPDX-License-Identifier: Apache-2.0
#include "server/memory/memory_budget.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <list>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

namespace headlight {

const char* Name(MemoryKind kind) {
  constexpr std::array<const char*, kNumMemoryKinds> kNames = {"message", "queue",     "batch",
                                                               "reply",   "workspace", "model"};
  return kNames[static_cast<size_t>(kind)];
}

// What the budget and its leases share. All public functions lock.
class Lease::State : public std::enable_shared_from_this<Lease::State> {
 public:
  explicit State(const MemoryShares& shares) : shares_(shares) {}

  // Counts `bytes`, which may be negative, if there is room for them. True: done.
  bool Add(MemoryKind kind, int64_t bytes);

  // As Add, and asks the reclaimers before it gives up.
  bool AddOrReclaim(MemoryKind kind, int64_t bytes);

  void GiveBack(MemoryKind kind, int64_t bytes);
  void Relabel(MemoryKind from, MemoryKind to, int64_t bytes);
  absl::Status NeverFits(int64_t bytes) const;
  absl::Status Exhausted(MemoryKind kind, int64_t bytes) const;

  uint64_t Wait(MemoryKind kind, int64_t bytes, MemoryBudget::OnRoom on_room);
  bool CancelWait(uint64_t wait);
  void DropWaits();
  bool IsAwaited() const;
  void AddReclaimer(const std::shared_ptr<const MemoryBudget::Reclaimer>& reclaimer);

  int64_t Held(MemoryKind kind) const;
  int64_t held() const;
  int64_t peak() const;
  void ResetPeak();
  int64_t limit() const { return shares_.limit; }
  int64_t LimitOfRequests() const;
  int64_t LimitOfModels() const { return shares_.limit - shares_.requests_reserved; }

 private:
  struct Waiting {
    uint64_t id;
    MemoryKind kind;
    int64_t bytes;
    MemoryBudget::OnRoom on_room;
    absl::StatusOr<Lease> answer = Lease();
  };

  // All of these require mutex_.
  int64_t& OfKind(MemoryKind kind) { return held_[static_cast<size_t>(kind)]; }
  int64_t Models() const { return held_[static_cast<size_t>(MemoryKind::kModel)]; }
  int64_t Sum() const { return std::accumulate(held_.begin(), held_.end(), int64_t{0}); }
  int64_t RequestsMayHold() const { return shares_.limit - std::max(shares_.models_reserved, Models()); }
  int64_t Room(MemoryKind kind) const;
  void Count(MemoryKind kind, int64_t bytes);
  absl::Status NeverFitsLocked(int64_t bytes) const;
  void ServeWaits();
  void GiveUpHopelessWaits();

  // Calls those in answered_, on this thread unless another one is at it already, which then does it all: an
  // `on_room` that lets go of its lease at once serves the next of the line, and a long line would otherwise
  // become a deep stack.
  void CallAnswered();
  void Reclaim(MemoryKind kind, int64_t bytes);

  const MemoryShares shares_;
  mutable std::mutex mutex_;
  std::array<int64_t, kNumMemoryKinds> held_ = {};  // guarded by mutex_, as is all below
  int64_t peak_ = 0;
  std::list<Waiting> waiting_;   // first come, first served
  std::list<Waiting> answered_;  // to be called; lists, since moving from one to the other cannot fail
  bool is_calling_ = false;
  uint64_t last_wait_ = 0;
  std::vector<std::weak_ptr<const MemoryBudget::Reclaimer>> reclaimers_;
};

int64_t Lease::State::Room(MemoryKind kind) const {
  if (kind != MemoryKind::kModel) return RequestsMayHold() - (Sum() - Models());
  return shares_.limit - std::max(shares_.requests_reserved, Sum() - Models()) - Models();
}

void Lease::State::Count(MemoryKind kind, int64_t bytes) {
  OfKind(kind) += bytes;
  peak_ = std::max(peak_, Sum());
}

bool Lease::State::Add(MemoryKind kind, int64_t bytes) {
  assert(bytes >= 0);
  bool models_grow = false;
  {
    const std::lock_guard lock(mutex_);
    if (bytes > Room(kind)) return false;
    Count(kind, bytes);
    models_grow = kind == MemoryKind::kModel && !waiting_.empty();
    if (models_grow) GiveUpHopelessWaits();
  }
  if (models_grow) CallAnswered();
  return true;
}

bool Lease::State::AddOrReclaim(MemoryKind kind, int64_t bytes) {
  if (Add(kind, bytes)) return true;
  Reclaim(kind, bytes);
  return Add(kind, bytes);
}

void Lease::State::GiveBack(MemoryKind kind, int64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    OfKind(kind) -= bytes;
    assert(OfKind(kind) >= 0);
    if (waiting_.empty()) return;
    ServeWaits();
  }
  CallAnswered();
}

void Lease::State::Relabel(MemoryKind from, MemoryKind to, int64_t bytes) {
  assert((from == MemoryKind::kModel) == (to == MemoryKind::kModel));
  const std::lock_guard lock(mutex_);
  OfKind(from) -= bytes;
  OfKind(to) += bytes;
}

absl::Status Lease::State::NeverFitsLocked(int64_t bytes) const {
  const int64_t most = RequestsMayHold();
  if (bytes <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the request takes ", bytes, " bytes, of the ",
                                                 std::max<int64_t>(most, 0),
                                                 " bytes that an empty server has for requests "
                                                 "(--memory-limit)"));
}

absl::Status Lease::State::NeverFits(int64_t bytes) const {
  const std::lock_guard lock(mutex_);
  return NeverFitsLocked(bytes);
}

absl::Status Lease::State::Exhausted(MemoryKind kind, int64_t bytes) const {
  const std::lock_guard lock(mutex_);
  const bool of_model = kind == MemoryKind::kModel;
  const int64_t most = of_model ? LimitOfModels() : RequestsMayHold();
  return absl::ResourceExhaustedError(absl::StrCat(
      "memory is short: the ", of_model ? "model" : "request", " takes ", bytes, " bytes, of the ",
      std::max<int64_t>(most, 0), " bytes for ", of_model ? "models" : "requests", " (--memory-limit) ",
      std::max<int64_t>(Room(kind), 0), " are free"));
}

uint64_t Lease::State::Wait(MemoryKind kind, int64_t bytes, MemoryBudget::OnRoom on_room) {
  assert(kind != MemoryKind::kModel);
  uint64_t id = 0;
  bool waits = false;
  {
    const std::lock_guard lock(mutex_);
    id = ++last_wait_;
    waiting_.push_back({id, kind, bytes, std::move(on_room), Lease()});
    if (absl::Status never = NeverFitsLocked(bytes); !never.ok()) {
      waiting_.back().answer = std::move(never);
      answered_.splice(answered_.end(), waiting_, std::prev(waiting_.end()));
    } else {
      ServeWaits();
      waits = !waiting_.empty();
    }
  }
  CallAnswered();
  if (waits) Reclaim(kind, bytes);  // whatever comes back serves the line on its way
  return id;
}

bool Lease::State::CancelWait(uint64_t wait) {
  std::list<Waiting> dropped;  // destroyed out of the lock
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.id == wait; });
    if (found == waiting_.end()) return false;
    dropped.splice(dropped.end(), waiting_, found);
    ServeWaits();  // who stood behind it may want less
  }
  CallAnswered();
  return true;
}

void Lease::State::DropWaits() {
  std::list<Waiting> dropped;
  const std::lock_guard lock(mutex_);
  dropped.swap(waiting_);
}

void Lease::State::ServeWaits() {
  while (!waiting_.empty() && waiting_.front().bytes <= Room(waiting_.front().kind)) {
    Waiting& first = waiting_.front();
    Count(first.kind, first.bytes);
    first.answer = Lease(shared_from_this(), first.kind, first.bytes);
    answered_.splice(answered_.end(), waiting_, waiting_.begin());
  }
}

void Lease::State::GiveUpHopelessWaits() {
  for (auto waiting = waiting_.begin(); waiting != waiting_.end();) {
    const auto next = std::next(waiting);
    if (absl::Status never = NeverFitsLocked(waiting->bytes); !never.ok()) {
      waiting->answer = std::move(never);
      answered_.splice(answered_.end(), waiting_, waiting);
    }
    waiting = next;
  }
  ServeWaits();
}

void Lease::State::CallAnswered() {
  std::unique_lock lock(mutex_);
  if (is_calling_) return;
  is_calling_ = true;
  while (!answered_.empty()) {
    std::list<Waiting> first;
    first.splice(first.end(), answered_, answered_.begin());
    lock.unlock();
    std::move(first.front().on_room)(std::move(first.front().answer));
    first.clear();
    lock.lock();
  }
  is_calling_ = false;
}

bool Lease::State::IsAwaited() const {
  const std::lock_guard lock(mutex_);
  return !waiting_.empty();
}

void Lease::State::AddReclaimer(const std::shared_ptr<const MemoryBudget::Reclaimer>& reclaimer) {
  const std::lock_guard lock(mutex_);
  std::erase_if(reclaimers_, [](const auto& other) { return other.expired(); });
  reclaimers_.push_back(reclaimer);
}

void Lease::State::Reclaim(MemoryKind kind, int64_t bytes) {
  std::vector<std::weak_ptr<const MemoryBudget::Reclaimer>> reclaimers;
  {
    const std::lock_guard lock(mutex_);
    reclaimers = reclaimers_;
  }
  for (const auto& weak : reclaimers) {
    int64_t lacking = 0;
    {
      const std::lock_guard lock(mutex_);
      lacking = bytes - Room(kind);
    }
    if (lacking <= 0) return;
    if (const auto reclaimer = weak.lock()) (*reclaimer)(lacking);
  }
}

int64_t Lease::State::Held(MemoryKind kind) const {
  const std::lock_guard lock(mutex_);
  return held_[static_cast<size_t>(kind)];
}

int64_t Lease::State::held() const {
  const std::lock_guard lock(mutex_);
  return Sum();
}

int64_t Lease::State::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

void Lease::State::ResetPeak() {
  const std::lock_guard lock(mutex_);
  peak_ = Sum();
}

int64_t Lease::State::LimitOfRequests() const {
  const std::lock_guard lock(mutex_);
  return std::max<int64_t>(RequestsMayHold(), 0);
}

Lease::Lease(std::shared_ptr<State> state, MemoryKind kind, int64_t bytes)
    : state_(std::move(state)), kind_(kind), bytes_(bytes) {}

Lease::Lease(Lease&& other) noexcept
    : state_(std::move(other.state_)), kind_(other.kind_), bytes_(std::exchange(other.bytes_, 0)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  Lease before(std::move(*this));  // gives back only when this one is in place: whoever is called may look
  state_ = std::move(other.state_);
  kind_ = other.kind_;
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Lease::~Lease() {
  if (bytes_ > 0) state_->GiveBack(kind_, bytes_);
}

bool Lease::Resize(int64_t bytes) {
  assert(bytes >= 0);
  if (state_ == nullptr) return bytes == 0;
  if (bytes > bytes_ && !state_->AddOrReclaim(kind_, bytes - bytes_)) return false;
  const int64_t before = std::exchange(bytes_, bytes);
  if (bytes < before) state_->GiveBack(kind_, before - bytes);
  return true;
}

Lease Lease::Split(int64_t bytes) {
  assert(bytes >= 0 && bytes <= bytes_);
  bytes_ -= bytes;
  return Lease(state_, kind_, bytes);
}

void Lease::Absorb(Lease other) {
  if (other.state_ == nullptr) return;
  if (state_ == nullptr) {
    *this = std::move(other);
    return;
  }
  assert(state_ == other.state_);
  other.Relabel(kind_);
  bytes_ += std::exchange(other.bytes_, 0);
}

void Lease::Relabel(MemoryKind kind) {
  if (bytes_ > 0) state_->Relabel(kind_, kind, bytes_);
  kind_ = kind;
}

MemoryBudget::MemoryBudget(int64_t limit_bytes) : MemoryBudget(MemoryShares{.limit = limit_bytes}) {}

MemoryBudget::MemoryBudget(const MemoryShares& shares) : state_(std::make_shared<Lease::State>(shares)) {}

MemoryBudget::~MemoryBudget() { state_->DropWaits(); }

std::optional<Lease> MemoryBudget::TryReserve(MemoryKind kind, int64_t bytes) {
  if (!state_->AddOrReclaim(kind, bytes)) return std::nullopt;
  return Lease(state_, kind, bytes);
}

absl::StatusOr<Lease> MemoryBudget::Reserve(MemoryKind kind, int64_t bytes) {
  if (std::optional<Lease> lease = TryReserve(kind, bytes)) return *std::move(lease);
  if (kind != MemoryKind::kModel) {
    if (absl::Status never = NeverFits(bytes); !never.ok()) return never;
  }
  return state_->Exhausted(kind, bytes);
}

absl::Status MemoryBudget::NeverFits(int64_t bytes) const { return state_->NeverFits(bytes); }

uint64_t MemoryBudget::WhenRoom(MemoryKind kind, int64_t bytes, OnRoom on_room) {
  return state_->Wait(kind, bytes, std::move(on_room));
}

bool MemoryBudget::CancelWait(uint64_t wait) { return state_->CancelWait(wait); }

bool MemoryBudget::IsAwaited() const { return state_->IsAwaited(); }

void MemoryBudget::AddReclaimer(const std::shared_ptr<const Reclaimer>& reclaimer) {
  state_->AddReclaimer(reclaimer);
}

int64_t MemoryBudget::Held(MemoryKind kind) const { return state_->Held(kind); }
int64_t MemoryBudget::held() const { return state_->held(); }
int64_t MemoryBudget::peak_held() const { return state_->peak(); }
void MemoryBudget::ResetPeak() { state_->ResetPeak(); }
int64_t MemoryBudget::limit() const { return state_->limit(); }
int64_t MemoryBudget::limit_of_models() const { return state_->LimitOfModels(); }
int64_t MemoryBudget::limit_of_requests() const { return state_->LimitOfRequests(); }

}  // namespace headlight
