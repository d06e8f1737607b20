// SPDX-License-Identifier: Apache-2.0
//
// What the sender of an open loop does next. Pure arithmetic on times that it is told, so that a test can
// play a whole run without waiting.
#ifndef HEADLIGHT_CLIENT_LOAD_PACER_H_
#define HEADLIGHT_CLIENT_LOAD_PACER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "client/load/arrivals.h"
#include "client/load/load_result.h"
#include "client/load/request_mix.h"

namespace headlight::client {

// When the arrivals are, and until when.
struct ArrivalPlan {
  Arrivals arrivals = Arrivals::kPoisson;
  double rate = 1;  // per second, over all threads
  std::vector<RateStep> rate_steps;
  uint64_t seed = 0;
  LoadClock::time_point start;  // arrivals before the window are warm-up
  Window window;
  int64_t count = 0;  // end after so many within the window; 0: at the window's end
};

// Not thread-safe. `thread` of `num_threads` sends every num_threads-th arrival of the one common sequence.
class Pacer {
 public:
  Pacer(const ArrivalPlan& plan, const RequestMix& mix, int thread, int num_threads);

  enum class Action {
    kWait,  // until `at`, or until there is room
    kSend,  // now
    kDrop,  // its deadline passed while there was no room
    kEnd,   // nothing is left
  };
  struct Step {
    Action action;
    int64_t number;            // of the arrival
    LoadClock::time_point at;  // its intended time, or until when to wait
    RequestChoice choice;      // with kSend and kDrop
  };

  // `has_room`: whether another request may be in flight. A request is sent at its time, or late when there
  // was no room or the sender was not scheduled; its time does not change by that. kSend and kDrop are done
  // with then.
  Step Next(LoadClock::time_point now, bool has_room);

 private:
  struct Arrival {
    int64_t number;
    LoadClock::time_point at;
    RequestChoice choice;
  };
  void Advance();

  const ArrivalPlan plan_;
  const RequestMix mix_;
  const int thread_;
  const int num_threads_;
  ArrivalTimes times_;
  int64_t next_number_ = 0;
  int64_t measured_ = 0;  // arrivals within the window so far, of all threads
  std::optional<Arrival> arrival_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_PACER_H_
