// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/ticket_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <utility>

namespace headlight {
namespace {

TimePoint At(int64_t ns) { return TimePoint(std::chrono::nanoseconds(ns)); }

std::unique_ptr<Ticket> MakeTicket(int64_t predicted_ns, TimePoint deadline) {
  auto ticket = std::make_unique<Ticket>();
  ticket->predicted_ns = predicted_ns;
  ticket->deadline = deadline;
  return ticket;
}

struct Numbers {
  int64_t predicted_ns;
  TimePoint deadline;
};

// The sums one after the other.
template <typename Iterator>
LineSums SumsByHand(Iterator from, Iterator to) {
  LineSums sums;
  for (; from != to; ++from) {
    const auto ns = static_cast<double>(from->second.predicted_ns);
    ++sums.num_tickets;
    sums.predicted_ns += ns;
    sums.squares_ns2 += ns * ns;
    if (from->second.deadline == TimePoint::max()) continue;
    const auto deadline_ns = static_cast<double>(from->second.deadline.time_since_epoch().count());
    sums.latest_start_ns = std::min(sums.latest_start_ns, deadline_ns - sums.predicted_ns);
  }
  return sums;
}

void ExpectEqual(const LineSums& got, const LineSums& wanted) {
  EXPECT_EQ(got.num_tickets, wanted.num_tickets);
  EXPECT_EQ(got.predicted_ns, wanted.predicted_ns);
  EXPECT_EQ(got.squares_ns2, wanted.squares_ns2);
  EXPECT_EQ(got.latest_start_ns, wanted.latest_start_ns);
}

TEST(TicketOrderTest, KeepsOrderAndSumsWhateverComesAndGoes) {
  std::mt19937 random(5);
  TicketOrder order;
  std::map<Place, Numbers> by_hand;
  for (uint64_t id = 1; id <= 2000; ++id) {
    const Place place{At(static_cast<int64_t>(random() % 50)), id};
    const TimePoint deadline =
        random() % 4 == 0 ? TimePoint::max() : At(static_cast<int64_t>(random() % 10'000));
    const auto predicted_ns = static_cast<int64_t>(random() % 1000);
    order.Push(place, MakeTicket(predicted_ns, deadline));
    by_hand[place] = {predicted_ns, deadline};
    if (random() % 3 == 0) {
      const auto gone = std::next(by_hand.begin(), random() % by_hand.size());
      const std::unique_ptr<Ticket> ticket = order.Remove(gone->first);
      ASSERT_NE(ticket, nullptr);
      EXPECT_EQ(ticket->predicted_ns, gone->second.predicted_ns);
      by_hand.erase(gone);
    }
    const Place cut{At(static_cast<int64_t>(random() % 50)), random() % 2000};
    ExpectEqual(order.Before(cut), SumsByHand(by_hand.begin(), by_hand.lower_bound(cut)));
    ExpectEqual(order.Behind(cut), SumsByHand(by_hand.upper_bound(cut), by_hand.end()));
  }
  ExpectEqual(order.all(), SumsByHand(by_hand.begin(), by_hand.end()));
  auto next = by_hand.begin();
  order.Walk([&](const Place& place, Ticket&) { return place == (next++)->first; });
  EXPECT_EQ(next, by_hand.end());
}

TEST(TicketOrderTest, AWalkEndsWhereItIsTold) {
  TicketOrder order;
  for (uint64_t id = 1; id <= 100; ++id) order.Push({At(0), id}, MakeTicket(1, TimePoint::max()));
  uint64_t last = 0;
  order.Walk([&](const Place& place, Ticket&) {
    last = place.id;
    return place.id < 7;
  });
  EXPECT_EQ(last, 7u);
}

TEST(TicketOrderTest, NothingIsRemovedTwice) {
  TicketOrder order;
  order.Push({At(3), 1}, MakeTicket(1, TimePoint::max()));
  EXPECT_EQ(order.Remove({At(3), 2}), nullptr);
  EXPECT_NE(order.Remove({At(3), 1}), nullptr);
  EXPECT_EQ(order.Remove({At(3), 1}), nullptr);
  EXPECT_TRUE(order.empty());
}

}  // namespace
}  // namespace headlight
