// SPDX-License-Identifier: Apache-2.0
//
// Keeps gRPC's callback threads from falling asleep.
#ifndef HEADLIGHT_SERVER_RPC_PULSE_H_
#define HEADLIGHT_SERVER_RPC_PULSE_H_

#include <condition_variable>
#include <mutex>
#include <thread>

namespace headlight {

// Where gRPC has no pollers of its own (1.51 on Linux), the few threads that run callbacks sleep for 100 ms
// each time they have had nothing to do for a second, all at once if it comes so: a request, or the
// cancellation of a long one, then waits for them. While a Pulse lives one of them gets something to do every
// 400 ms, and so one is awake at any time.
class Pulse {
 public:
  Pulse();
  ~Pulse();
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses everything above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_PULSE_H_
