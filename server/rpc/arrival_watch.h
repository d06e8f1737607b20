// SPDX-License-Identifier: Apache-2.0
//
// Memory of messages that are still arriving. gRPC gathers a message whole before it hands it over, and tells
// nobody meanwhile how much of it there is. What is known is what each connection has received and what of it
// was handed over: the rest is arriving, and takes a lease like everything else.
#ifndef HEADLIGHT_SERVER_RPC_ARRIVAL_WATCH_H_
#define HEADLIGHT_SERVER_RPC_ARRIVAL_WATCH_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "server/memory/memory_budget.h"
#include "server/schedule/clock.h"

namespace headlight {

// Who waits for a message.
class MessageReader {
 public:
  virtual ~MessageReader() = default;
  // Gives up the message that is arriving: ends with `why` once what was read before it is answered. Called
  // without the watch's lock.
  virtual void EndReading(absl::Status why) = 0;
  // Gives it up at once, and with it what is not answered yet.
  virtual void BreakOff() = 0;
};

// Thread-safe; its lock is a leaf.
class ArrivalWatch {
 public:
  // What the connection from `peer`, as gRPC names it, has received since it was made; nothing if that cannot
  // be told, and then nothing that arrives there is counted.
  using ReceivedBytes = std::function<std::optional<int64_t>(const std::string& peer)>;

  struct Options {
    int64_t max_message_bytes = 0;
    // Who sends nothing for so long in the middle of a message is given up.
    std::chrono::steady_clock::duration patience = std::chrono::seconds(30);
  };

  // What is known of a connection. Opaque to others.
  class Connection;

  // `memory` and `clock` must outlive this.
  ArrivalWatch(MemoryBudget& memory, const Clock& clock, ReceivedBytes received, const Options& options);
  ~ArrivalWatch();

  // Looks on a thread of its own from now on, often while bytes arrive.
  void Start();

  std::shared_ptr<Connection> Find(const std::string& peer);

  // A message may come for `reader`, who holds `leased_bytes` for it already. Also while it does not read:
  // the receive window lets some of it in. Said again: the lease is another now. `max_bytes`: of a message that
  // it takes, where that is less than Options::max_message_bytes.
  void Expect(Connection& connection, const std::shared_ptr<MessageReader>& reader, int64_t leased_bytes,
              std::optional<int64_t> max_bytes = std::nullopt);
  // The message has come, with so many bytes, and another one may.
  void Received(Connection& connection, const MessageReader& reader, int64_t message_bytes);
  // The message has come, with so many bytes, or will not come: none. No other one will. Nothing happens if
  // `reader` expects none.
  void End(Connection& connection, const MessageReader& reader, std::optional<int64_t> message_bytes);

  // One look: takes the memory of what is arriving, or gives it back. Where there is none, readers of the
  // connection with the most of it are told to end, half of them and the latest first, and if they are still
  // there a second later they are broken off. Those of small messages stay, unless there are no others. True
  // if anything is arriving. For one thread at a time.
  bool Look();

 private:
  enum class Share { kHalf, kAll };
  struct Ending {
    std::weak_ptr<MessageReader> reader;
    absl::Status why;  // OK: breaks off
  };

  void Run();
  static void Account(Connection& connection, int64_t bytes);  // requires mutex_
  bool Take(int64_t bytes);
  // All of these require mutex_.
  int64_t Measure(Connection& connection, const std::string& peer, TimePoint now);
  absl::Status WhyGiveUp(const Connection& connection, TimePoint now) const;
  static void GiveUp(Connection& connection, Share share, const absl::Status& why, TimePoint now,
                     std::vector<Ending>& endings);
  void GiveUpForMemory(int64_t wanted_bytes, TimePoint now, std::vector<Ending>& endings);
  void ForgetClosed(TimePoint now);

  MemoryBudget& memory_;
  const Clock& clock_;
  const ReceivedBytes received_;
  const Options options_;
  Lease arriving_;  // what no reader holds a lease for; Look's own
  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<std::string, std::shared_ptr<Connection>> connections_;  // by peer; guarded by mutex_
  int64_t num_readers_ = 0;                                                   // guarded by mutex_
  bool resting_ = false;                                                      // guarded by mutex_
  bool stopping_ = false;                                                     // guarded by mutex_
  TimePoint tidied_;                                                          // guarded by mutex_
  std::thread thread_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_ARRIVAL_WATCH_H_
