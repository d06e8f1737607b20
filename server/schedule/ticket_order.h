// SPDX-License-Identifier: Apache-2.0
//
// Tickets in the order of their places, with the sums over any part of the line in O(log n): a treap.
#ifndef HEADLIGHT_SERVER_SCHEDULE_TICKET_ORDER_H_
#define HEADLIGHT_SERVER_SCHEDULE_TICKET_ORDER_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>

#include "server/schedule/clock.h"
#include "server/schedule/ticket.h"

namespace headlight {

// Where a ticket stands: earlier ones go first, and of equal ones those that came first.
struct Place {
  TimePoint due;
  uint64_t id = 0;

  friend auto operator<=>(const Place&, const Place&) = default;
};

// Over a stretch of the line.
struct LineSums {
  int64_t num_tickets = 0;
  double predicted_ns = 0;
  double squares_ns2 = 0;  // of predicted_ns
  // Least of each ticket's deadline (nanoseconds of the clock) less the predictions of the stretch up to and
  // with it: when the stretch has to begin at the latest for all of it to be in time.
  double latest_start_ns = std::numeric_limits<double>::infinity();
};

// Not thread-safe.
class TicketOrder {
 public:
  TicketOrder();
  ~TicketOrder();
  TicketOrder(TicketOrder&&) noexcept;
  TicketOrder& operator=(TicketOrder&&) noexcept;

  bool empty() const { return root_ == nullptr; }
  LineSums all() const;
  LineSums Before(const Place& place) const;  // of the places before it
  LineSums Behind(const Place& place) const;  // of the places behind it

  // `place` must not be taken.
  void Push(const Place& place, std::unique_ptr<Ticket> ticket);

  // The ticket at `place`; null if there is none.
  std::unique_ptr<Ticket> Remove(const Place& place);

  // From the front until `visit` returns false. The line must not change meanwhile.
  void Walk(const std::function<bool(const Place&, Ticket&)>& visit) const;

  // To be called when predictions of tickets in it have changed. O(n).
  void SumAgain();

 private:
  struct Node;
  using Link = std::unique_ptr<Node>;

  static LineSums SumsOf(const Link& link);
  static void Sum(Node& node);
  static Link Merge(Link front, Link back);
  // Places before `place` go to `front`, the others to `back`.
  static void Split(Link line, const Place& place, Link& front, Link& back);
  static bool WalkFrom(const Link& link, const std::function<bool(const Place&, Ticket&)>& visit);
  static void SumAll(const Link& link);

  Link root_;
};

LineSums operator+(const LineSums& front, const LineSums& back);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_TICKET_ORDER_H_
