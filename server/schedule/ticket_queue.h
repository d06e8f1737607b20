// SPDX-License-Identifier: Apache-2.0
//
// The tickets that wait for one lane, and the order in which they leave.
//
// Within one line of a caller: by deadline (EDF), where a ticket goes by min(deadline, arrival + max_age) so
// that nobody waits for ever, and each step of priority makes the place (not the deadline) earlier by
// priority_step. Between lines: start-time fair queueing over predicted cost. Each line has a tag, the
// virtual time at which its next ticket may start; the line with the smallest tag goes first, and a ticket
// that leaves moves its line's tag by cost / weight.
//
// Requests come in bursts. A line that used less than its share of late keeps a tag behind the virtual time,
// by a bounded credit, and goes first until that is used up; without it, a caller that sends just its share
// on average would lose what its gaps leave to others. One that is new or was away for seconds begins at the
// virtual time of today, and so do all after a rest of the lane: who found it idle took nothing from anybody.
//
// A caller has up to two lines, one for its usual tickets and a lighter one, without credit, for those that
// are held back.
#ifndef HEADLIGHT_SERVER_SCHEDULE_TICKET_QUEUE_H_
#define HEADLIGHT_SERVER_SCHEDULE_TICKET_QUEUE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/schedule/clock.h"
#include "server/schedule/ticket.h"
#include "server/schedule/ticket_order.h"

namespace headlight {

struct TicketQueueOptions {
  int64_t max_age_us = 0;
  int64_t priority_step_us = 0;
  double held_back_share = 0.25;  // weight of a line of held-back tickets, of the caller's
};

struct BatchLimits {
  TimePoint now;
  double budget_ns = 0;  // after correction
  int64_t max_tokens = 0;
  double correction = 1;  // predictions are multiplied with it
  double doubt = 0;       // 0..1: a ticket is given up if even (1 - doubt) of its prediction would be late
};

// What waits ahead of a ticket.
struct AheadInQueue {
  double waiting_ns = 0;  // predicted, of those that will leave before it
  double squares_ns2 = 0;
  double others_ns = 0;        // the part of waiting_ns that is in other lines, or will likely come to them
  double behind_ns = 0;        // predicted, of those in its line that leave after it
  double latest_start_ns = 0;  // see LineSums, of those in its line that leave after it
};

// Not thread-safe. Never calls `done`.
class TicketQueue {
 public:
  explicit TicketQueue(const TicketQueueOptions& options) : options_(options) {}

  bool empty() const { return where_.empty(); }
  int64_t num_tickets() const { return static_cast<int64_t>(where_.size()); }
  int64_t num_held_back() const { return num_held_back_; }
  size_t num_lines() const { return lines_.size(); }  // that are remembered, empty ones too
  double predicted_ns() const { return predicted_ns_; }
  double held_back_ns() const { return held_back_ns_; }

  // To be called when the lane has been idle for a while: nobody owes, and nobody has credit. O(1).
  void StartAfresh() { floor_ns_ = virtual_ns_ = std::max(virtual_ns_, furthest_tag_ns_); }

  // O(log n).
  void Push(TimePoint now, std::unique_ptr<Ticket> ticket);

  // Takes out the ticket of that id; null if it does not wait here. O(log n).
  std::unique_ptr<Ticket> Remove(uint64_t id);

  // Takes the first ticket that is still worth computing and those behind it that may share its batch, until
  // the next of them exceeds the limits or would make one of the batch late. Looks at a bounded number of
  // tickets. Those found on the way that were cancelled or come too late go to `dropped`.
  std::vector<std::unique_ptr<Ticket>> TakeBatch(const BatchLimits& limits,
                                                 std::vector<std::unique_ptr<Ticket>>& dropped);

  // O(log n) and the number of lines in which something waits or recently did.
  AheadInQueue AheadOf(TimePoint now, const Ticket& ticket) const;

  TimePoint next_deadline() const;  // of those that wait; max: none
  std::vector<std::unique_ptr<Ticket>> TakeExpired(TimePoint now);
  std::vector<std::unique_ptr<Ticket>> TakeAll();

  // Lets `predict` renew Ticket::predicted_ns of all. O(n).
  void PredictAgain(const std::function<void(Ticket&)>& predict);

 private:
  struct LineId {
    uint64_t caller = 0;
    bool held_back = false;

    friend auto operator<=>(const LineId&, const LineId&) = default;
  };
  struct Line {
    TicketOrder order;
    double weight = 1;
    double tag_ns = 0;  // virtual time
    // Predicted work of late, as a share of the time, that has been put in line; fades within half a second.
    double use = 0;
    double use_scatter_ns = 0;  // the same of the squares of predictions: the variance of the use
    TimePoint use_at;
  };
  // What another line may put ahead of a ticket.
  struct Rival {
    double waits_ns = 0;  // what is in line already
    double most_ns = 0;   // with whatever comes meanwhile
    double use = 0;
    double use_scatter_ns = 0;
  };
  struct Where {
    LineId line;
    Place place;
    TimePoint deadline;
  };

  static LineId LineOf(const Ticket& ticket) { return {ticket.caller.id, ticket.held_back}; }
  Place PlaceOf(const Ticket& ticket) const;
  double WeightOf(const Ticket& ticket) const;
  // The factor by which the use of `line` has faded since it was noted, and the faded use.
  static double FadingAt(const Line& line, TimePoint now);
  static double UseAt(const Line& line, TimePoint now) { return line.use * FadingAt(line, now); }
  // The tag of its first ticket, or of one that came now if it is empty.
  double TagAt(TimePoint now, const LineId& id, const Line& line) const;
  // The lines that may put something ahead of a ticket of `id` that starts at `start_tag_ns`.
  std::vector<Rival> RivalsOf(TimePoint now, const LineId& id, double start_tag_ns,
                              AheadInQueue& ahead) const;
  // How long own_ns of computing takes with what rivals put ahead of its end.
  static double TimeBesideNs(const std::vector<Rival>& rivals, double own_ns, double caution);
  // Deviations of what will come to be reckoned with.
  double CautionAt(TimePoint now, double start_tag_ns) const;
  std::unique_ptr<Ticket> TakeOut(const Where& where);  // of its line and of the sums; not of where_
  std::unique_ptr<Ticket> Leave(uint64_t id);           // to be computed: its line pays
  void ForgetIdleLines(TimePoint now);

  const TicketQueueOptions options_;
  std::map<LineId, Line> lines_;
  std::set<std::pair<double, LineId>> waiting_lines_;  // by tag, those that are not empty
  std::set<std::pair<TimePoint, uint64_t>> deadlines_;
  std::unordered_map<uint64_t, Where> where_;
  double virtual_ns_ = 0;
  double furthest_tag_ns_ = 0;  // of all lines that were ever served
  double floor_ns_ = 0;         // no line begins before it
  double predicted_ns_ = 0;
  double held_back_ns_ = 0;
  int64_t num_held_back_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_TICKET_QUEUE_H_
