// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/ticket_queue.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace headlight {
namespace {

constexpr double kUseFadesNs = 0.5e9;
constexpr double kNoUse = 1e-3;  // of the time: less is not reckoned with
// Compute time that a line may be ahead of others after having used less than its share. A caller that sends
// just its share, at random, loses about E[S^2] / (2 E[S] (credit + what it may have in line)) of it.
constexpr double kCreditNs = 200e6;
// What comes to other lines is expected to be what came of late. While the lane is nearly full, those that
// are beyond their share reckon with kCaution standard deviations more: others have credit to put it ahead.
constexpr double kCaution = 2.5;
constexpr double kNearlyFull = 0.9;
constexpr int kMostRounds = 5;         // of Newton's method, which is at its end after two or three
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

double TicketQueue::FadingAt(const Line& line, TimePoint now) {
  return std::exp(-std::max(0.0, NsBetween(line.use_at, now)) / kUseFadesNs);
}

double TicketQueue::TagAt(TimePoint now, const LineId& id, const Line& line) const {
  if (!line.order.empty()) return line.tag_ns;
  const bool has_credit = !id.held_back && UseAt(line, now) >= kNoUse;
  const double credit_ns = has_credit ? kCreditNs / line.weight : 0;
  return std::max({line.tag_ns, virtual_ns_ - credit_ns, floor_ns_});
}

void TicketQueue::Push(TimePoint now, std::unique_ptr<Ticket> ticket) {
  const LineId id = LineOf(*ticket);
  const auto [found, is_new] = lines_.try_emplace(id);
  Line& line = found->second;
  line.weight = WeightOf(*ticket);
  if (is_new) line.use_at = now;
  if (line.order.empty()) {
    line.tag_ns = TagAt(now, id, line);
    waiting_lines_.emplace(line.tag_ns, id);
  }
  const auto own_ns = static_cast<double>(ticket->predicted_ns);
  const double fading = FadingAt(line, now);
  line.use = line.use * fading + own_ns / kUseFadesNs;
  line.use_scatter_ns = line.use_scatter_ns * fading + own_ns * own_ns / kUseFadesNs;
  line.use_at = now;
  const Where where{id, PlaceOf(*ticket), ticket->deadline};
  if (where.deadline != TimePoint::max()) deadlines_.emplace(where.deadline, ticket->id);
  where_.emplace(ticket->id, where);
  predicted_ns_ += own_ns;
  if (ticket->held_back) {
    held_back_ns_ += own_ns;
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
  furthest_tag_ns_ = std::max(furthest_tag_ns_, line.tag_ns);
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

std::vector<TicketQueue::Rival> TicketQueue::RivalsOf(TimePoint now, const LineId& id, double start_tag_ns,
                                                      AheadInQueue& ahead) const {
  std::vector<Rival> rivals;
  for (const auto& [other_id, other] : lines_) {
    if (other_id == id) continue;
    const double fading = FadingAt(other, now);
    const double use = other.use * fading;
    if (use < kNoUse && other.order.empty()) continue;
    const double before_ns = (start_tag_ns - TagAt(now, other_id, other)) * other.weight;
    if (before_ns < 0 || (before_ns == 0 && other.order.empty())) continue;
    // All that starts before it, so the last of these may end after its start: one of the usual size.
    const double most_ns = before_ns + other.use_scatter_ns / std::max(other.use, kNoUse);
    const LineSums all = other.order.all();
    const double waits_ns = std::min(all.predicted_ns, most_ns);
    ahead.squares_ns2 += all.squares_ns2 * waits_ns / std::max(all.predicted_ns, 1.0);
    rivals.push_back({waits_ns, most_ns, use, other.use_scatter_ns * fading});
  }
  return rivals;
}

double TicketQueue::CautionAt(TimePoint now, double start_tag_ns) const {
  if (start_tag_ns <= virtual_ns_) return 0;  // within its share
  double use = 0;
  for (const auto& [id, line] : lines_) use += UseAt(line, now);
  return use > kNearlyFull ? kCaution : 0;
}

double TicketQueue::TimeBesideNs(const std::vector<Rival>& rivals, double own_ns, double caution) {
  double until_ns = own_ns;
  for (const Rival& rival : rivals) until_ns += rival.most_ns;
  // What is ahead grows with the time that it takes, as t + sqrt(t) at most, so Newton's method comes down to
  // the time at which both are equal, and never falls below it.
  for (int round = 0; round < kMostRounds && until_ns > own_ns; ++round) {
    double fixed_ns = own_ns;
    double slope = 0;
    double scatter_ns = 0;
    for (const Rival& rival : rivals) {
      if (rival.waits_ns + rival.use * until_ns >= rival.most_ns) {
        fixed_ns += rival.most_ns;
        continue;
      }
      fixed_ns += rival.waits_ns;
      slope += rival.use;
      scatter_ns += rival.use_scatter_ns;
    }
    const double deviation_ns = caution * std::sqrt(scatter_ns * until_ns);
    slope += deviation_ns / (2 * until_ns);
    if (slope >= 1) break;
    until_ns = std::min(until_ns, (fixed_ns + deviation_ns / 2) / (1 - slope));
  }
  return until_ns;
}

AheadInQueue TicketQueue::AheadOf(TimePoint now, const Ticket& ticket) const {
  const LineId id = LineOf(ticket);
  const Place place = PlaceOf(ticket);
  const auto own = lines_.find(id);
  LineSums before;
  LineSums behind;
  double tag_ns = virtual_ns_;
  if (own != lines_.end()) {
    before = own->second.order.Before(place);
    behind = own->second.order.Behind(place);
    tag_ns = TagAt(now, id, own->second);
  }
  AheadInQueue ahead{before.predicted_ns, before.squares_ns2, 0, behind.predicted_ns, behind.latest_start_ns};
  const double start_tag_ns = tag_ns + before.predicted_ns / WeightOf(ticket);
  const std::vector<Rival> rivals = RivalsOf(now, id, start_tag_ns, ahead);
  const double own_ns = before.predicted_ns + static_cast<double>(ticket.predicted_ns);
  ahead.others_ns = TimeBesideNs(rivals, own_ns, CautionAt(now, start_tag_ns)) - own_ns;
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
