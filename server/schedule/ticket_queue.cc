// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/ticket_queue.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace headlight {
namespace {

constexpr double kUseFadesNs = 0.5e9;
constexpr double kNoUse = 1e-3;      // of the time: less is not reckoned with
constexpr double kUseMayGrow = 1.5;  // random arrivals: what a line may use next, more than it did of late
constexpr double kUseMayCome = 0.1;
constexpr size_t kMostIdleLines = 32;  // that are remembered for the use they made of late
constexpr int kMostLooks = 64;         // tickets a batch is looked for among

double NsBetween(TimePoint begin, TimePoint end) {
  return std::chrono::duration<double, std::nano>(end - begin).count();
}

}  // namespace

Place TicketQueue::PlaceOf(const Ticket& ticket) const {
  const TimePoint aged = ticket.arrival + std::chrono::microseconds(options_.max_age_us);
  const auto favour = std::chrono::microseconds(options_.priority_step_us * ticket.priority);
  return {std::min(ticket.deadline, aged) - favour, ticket.id};
}

double TicketQueue::WeightOf(const Ticket& ticket) const {
  const double weight = std::clamp(ticket.caller.weight, 1e-6, 1e6);
  return ticket.held_back ? weight * options_.held_back_share : weight;
}

double TicketQueue::UseAt(const Line& line, TimePoint now) {
  return line.use * std::exp(-std::max(0.0, NsBetween(line.use_at, now)) / kUseFadesNs);
}

void TicketQueue::Push(TimePoint now, std::unique_ptr<Ticket> ticket) {
  const LineId id = LineOf(*ticket);
  const auto [found, is_new] = lines_.try_emplace(id);
  Line& line = found->second;
  line.weight = WeightOf(*ticket);
  line.use = (is_new ? 0 : UseAt(line, now)) + static_cast<double>(ticket->predicted_ns) / kUseFadesNs;
  line.use_at = now;
  if (line.order.empty()) {
    line.tag_ns = std::max(line.tag_ns, virtual_ns_);
    waiting_lines_.emplace(line.tag_ns, id);
  }
  const Where where{id, PlaceOf(*ticket), ticket->deadline};
  if (where.deadline != TimePoint::max()) deadlines_.emplace(where.deadline, ticket->id);
  where_.emplace(ticket->id, where);
  predicted_ns_ += static_cast<double>(ticket->predicted_ns);
  if (ticket->held_back) {
    held_back_ns_ += static_cast<double>(ticket->predicted_ns);
    ++num_held_back_;
  }
  line.order.Push(where.place, std::move(ticket));
  if (is_new && lines_.size() > waiting_lines_.size() + kMostIdleLines) ForgetIdleLines(now);
}

void TicketQueue::ForgetIdleLines(TimePoint now) {
  std::erase_if(lines_, [&](const auto& entry) {
    return entry.second.order.empty() && entry.second.tag_ns <= virtual_ns_ &&
           UseAt(entry.second, now) < kNoUse;
  });
}

std::unique_ptr<Ticket> TicketQueue::TakeOut(const Where& where) {
  Line& line = lines_.at(where.line);
  std::unique_ptr<Ticket> ticket = line.order.Remove(where.place);
  if (line.order.empty()) waiting_lines_.erase({line.tag_ns, where.line});
  if (where.deadline != TimePoint::max()) deadlines_.erase({where.deadline, where.place.id});
  predicted_ns_ -= static_cast<double>(ticket->predicted_ns);
  if (ticket->held_back) {
    held_back_ns_ -= static_cast<double>(ticket->predicted_ns);
    --num_held_back_;
  }
  return ticket;
}

std::unique_ptr<Ticket> TicketQueue::Remove(uint64_t id) {
  const auto found = where_.find(id);
  if (found == where_.end()) return nullptr;
  const Where where = found->second;
  where_.erase(found);
  return TakeOut(where);
}

std::unique_ptr<Ticket> TicketQueue::Leave(uint64_t id) {
  const LineId line_id = where_.at(id).line;
  Line& line = lines_.at(line_id);
  virtual_ns_ = std::max(virtual_ns_, line.tag_ns);
  std::unique_ptr<Ticket> ticket = Remove(id);
  const bool waits = !line.order.empty();
  if (waits) waiting_lines_.erase({line.tag_ns, line_id});
  line.tag_ns += static_cast<double>(ticket->predicted_ns) / line.weight;
  if (waits) waiting_lines_.emplace(line.tag_ns, line_id);
  return ticket;
}

std::vector<std::unique_ptr<Ticket>> TicketQueue::TakeBatch(const BatchLimits& limits,
                                                            std::vector<std::unique_ptr<Ticket>>& dropped) {
  std::vector<uint64_t> chosen;
  std::vector<uint64_t> hopeless;
  const Ticket* first = nullptr;
  TimePoint earliest = TimePoint::max();
  double batch_ns = 0;
  int64_t tokens = 0;
  int looks = 0;
  bool full = false;
  const auto visit = [&](const Place& place, Ticket& ticket) {
    const double own_ns = static_cast<double>(ticket.predicted_ns) * limits.correction;
    const auto at_best = std::chrono::nanoseconds(static_cast<int64_t>(own_ns * (1 - limits.doubt)));
    if (ticket.cancelled->IsCancelled() || ticket.deadline <= limits.now ||
        at_best > ticket.deadline - limits.now) {
      hopeless.push_back(place.id);
      return true;
    }
    if (first == nullptr) {
      first = &ticket;
      batch_ns = own_ns;
    } else {
      if (++looks > kMostLooks) return false;
      if (!(ticket.batch_key == first->batch_key)) return true;
      const double together_ns = batch_ns + std::max(0.0, own_ns - static_cast<double>(ticket.fixed_ns));
      const TimePoint in_time_for = std::min(earliest, ticket.deadline);
      full = together_ns > limits.budget_ns || tokens + ticket.tokens > limits.max_tokens ||
             (in_time_for != TimePoint::max() && together_ns > NsBetween(limits.now, in_time_for));
      if (full) return false;
      batch_ns = together_ns;
    }
    tokens += ticket.tokens;
    earliest = std::min(earliest, ticket.deadline);
    chosen.push_back(place.id);
    return batch_ns < limits.budget_ns && tokens < limits.max_tokens;
  };
  for (const auto& [tag, id] : waiting_lines_) {
    lines_.at(id).order.Walk(visit);
    if (full || looks > kMostLooks || batch_ns >= limits.budget_ns || tokens >= limits.max_tokens) break;
  }
  for (const uint64_t id : hopeless) dropped.push_back(Remove(id));
  std::vector<std::unique_ptr<Ticket>> batch;
  batch.reserve(chosen.size());
  for (const uint64_t id : chosen) batch.push_back(Leave(id));
  return batch;
}

double TicketQueue::ShareOf(TimePoint now, const LineId& id, double weight) const {
  double weights = weight;
  double left = 1;
  for (const auto& [other_id, other] : lines_) {
    if (other_id == id) continue;
    const double use = UseAt(other, now);
    if (use < kNoUse && other.order.empty()) continue;
    weights += other.weight;
    left -= use * kUseMayGrow + kUseMayCome;
  }
  return std::max(weight / weights, left);
}

AheadInQueue TicketQueue::AheadOf(TimePoint now, const Ticket& ticket) const {
  const LineId id = LineOf(ticket);
  const Place place = PlaceOf(ticket);
  const double weight = WeightOf(ticket);
  const auto own_ns = static_cast<double>(ticket.predicted_ns);
  const auto own = lines_.find(id);
  LineSums before;
  LineSums behind;
  double tag_ns = virtual_ns_;
  if (own != lines_.end()) {
    before = own->second.order.Before(place);
    behind = own->second.order.Behind(place);
    tag_ns = std::max(own->second.tag_ns, virtual_ns_);
  }
  AheadInQueue ahead{before.predicted_ns, before.squares_ns2, 0, behind.predicted_ns, behind.latest_start_ns};
  // What waits in other lines leaves first as far as its tags are smaller than this ticket's end.
  const double end_tag_ns = tag_ns + (before.predicted_ns + own_ns) / weight;
  for (const auto& [other_tag_ns, other_id] : waiting_lines_) {
    if (other_tag_ns >= end_tag_ns) break;
    if (other_id == id) continue;
    const Line& other = lines_.at(other_id);
    const LineSums all = other.order.all();
    const double first_ns = std::min(all.predicted_ns, (end_tag_ns - other_tag_ns) * other.weight);
    ahead.others_ns += first_ns;
    ahead.squares_ns2 += all.squares_ns2 * first_ns / std::max(all.predicted_ns, 1.0);
  }
  // And what will come to other lines meanwhile, if it comes as it did of late.
  const double share = ShareOf(now, id, weight);
  ahead.others_ns = std::max(ahead.others_ns, (before.predicted_ns + own_ns) * (1 / share - 1));
  ahead.waiting_ns += ahead.others_ns;
  return ahead;
}

TimePoint TicketQueue::next_deadline() const {
  return deadlines_.empty() ? TimePoint::max() : deadlines_.begin()->first;
}

std::vector<std::unique_ptr<Ticket>> TicketQueue::TakeExpired(TimePoint now) {
  std::vector<std::unique_ptr<Ticket>> expired;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now)
    expired.push_back(Remove(deadlines_.begin()->second));
  return expired;
}

std::vector<std::unique_ptr<Ticket>> TicketQueue::TakeAll() {
  std::vector<std::unique_ptr<Ticket>> all;
  all.reserve(where_.size());
  while (!where_.empty()) all.push_back(Remove(where_.begin()->first));
  return all;
}

void TicketQueue::PredictAgain(const std::function<void(Ticket&)>& predict) {
  predicted_ns_ = held_back_ns_ = 0;
  for (auto& [id, line] : lines_) {
    line.order.Walk([&](const Place&, Ticket& ticket) {
      predict(ticket);
      predicted_ns_ += static_cast<double>(ticket.predicted_ns);
      if (ticket.held_back) held_back_ns_ += static_cast<double>(ticket.predicted_ns);
      return true;
    });
    line.order.SumAgain();
  }
}

}  // namespace headlight
