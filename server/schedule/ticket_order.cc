// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/ticket_order.h"

#include <algorithm>
#include <utility>

namespace headlight {
namespace {

// Heights of a treap must not follow from the order of arrival: ids are mixed (the finaliser of splitmix64).
uint64_t MixedId(uint64_t id) {
  id += 0x9e3779b97f4a7c15;
  id = (id ^ (id >> 30)) * 0xbf58476d1ce4e5b9;
  id = (id ^ (id >> 27)) * 0x94d049bb133111eb;
  return id ^ (id >> 31);
}

}  // namespace

struct TicketOrder::Node {
  Place place;
  std::unique_ptr<Ticket> ticket;
  uint64_t height = 0;  // no child's is larger
  Link front;
  Link back;
  LineSums sums;  // of this node and all below it
};

TicketOrder::TicketOrder() = default;
TicketOrder::~TicketOrder() = default;
TicketOrder::TicketOrder(TicketOrder&&) noexcept = default;
TicketOrder& TicketOrder::operator=(TicketOrder&&) noexcept = default;

LineSums operator+(const LineSums& front, const LineSums& back) {
  return {front.num_tickets + back.num_tickets, front.predicted_ns + back.predicted_ns,
          front.squares_ns2 + back.squares_ns2,
          std::min(front.latest_start_ns, back.latest_start_ns - front.predicted_ns)};
}

namespace {

LineSums SumsOfOne(const Ticket& ticket) {
  const auto ns = static_cast<double>(ticket.predicted_ns);
  LineSums sums{1, ns, ns * ns};
  if (ticket.deadline != TimePoint::max())
    sums.latest_start_ns = static_cast<double>(ticket.deadline.time_since_epoch().count()) - ns;
  return sums;
}

}  // namespace

LineSums TicketOrder::SumsOf(const Link& link) { return link ? link->sums : LineSums{}; }

void TicketOrder::Sum(Node& node) {
  node.sums = SumsOf(node.front) + SumsOfOne(*node.ticket) + SumsOf(node.back);
}

LineSums TicketOrder::all() const { return SumsOf(root_); }

LineSums TicketOrder::Before(const Place& place) const {
  LineSums sums;
  for (const Node* node = root_.get(); node != nullptr;) {
    if (node->place < place) {
      sums = sums + SumsOf(node->front) + SumsOfOne(*node->ticket);
      node = node->back.get();
    } else {
      node = node->front.get();
    }
  }
  return sums;
}

LineSums TicketOrder::Behind(const Place& place) const {
  LineSums sums;
  for (const Node* node = root_.get(); node != nullptr;) {
    if (place < node->place) {
      sums = SumsOfOne(*node->ticket) + SumsOf(node->back) + sums;
      node = node->front.get();
    } else {
      node = node->back.get();
    }
  }
  return sums;
}

TicketOrder::Link TicketOrder::Merge(Link front, Link back) {
  if (!front) return back;
  if (!back) return front;
  if (front->height >= back->height) {
    front->back = Merge(std::move(front->back), std::move(back));
    Sum(*front);
    return front;
  }
  back->front = Merge(std::move(front), std::move(back->front));
  Sum(*back);
  return back;
}

void TicketOrder::Split(Link line, const Place& place, Link& front, Link& back) {
  if (!line) {
    front.reset();
    back.reset();
    return;
  }
  Link middle;
  if (line->place < place) {
    Split(std::move(line->back), place, middle, back);
    line->back = std::move(middle);
    Sum(*line);
    front = std::move(line);
  } else {
    Split(std::move(line->front), place, front, middle);
    line->front = std::move(middle);
    Sum(*line);
    back = std::move(line);
  }
}

void TicketOrder::Push(const Place& place, std::unique_ptr<Ticket> ticket) {
  auto node = std::make_unique<Node>();
  node->place = place;
  node->height = MixedId(place.id);
  node->ticket = std::move(ticket);
  Sum(*node);
  Link front;
  Link back;
  Split(std::move(root_), place, front, back);
  root_ = Merge(Merge(std::move(front), std::move(node)), std::move(back));
}

std::unique_ptr<Ticket> TicketOrder::Remove(const Place& place) {
  Link front;
  Link rest;
  Link found;
  Link back;
  Split(std::move(root_), place, front, rest);
  Split(std::move(rest), {place.due, place.id + 1}, found, back);
  root_ = Merge(std::move(front), std::move(back));
  return found ? std::move(found->ticket) : nullptr;
}

bool TicketOrder::WalkFrom(const Link& link, const std::function<bool(const Place&, Ticket&)>& visit) {
  if (!link) return true;
  return WalkFrom(link->front, visit) && visit(link->place, *link->ticket) && WalkFrom(link->back, visit);
}

void TicketOrder::Walk(const std::function<bool(const Place&, Ticket&)>& visit) const {
  WalkFrom(root_, visit);
}

void TicketOrder::SumAll(const Link& link) {
  if (!link) return;
  SumAll(link->front);
  SumAll(link->back);
  Sum(*link);
}

void TicketOrder::SumAgain() { SumAll(root_); }

}  // namespace headlight
