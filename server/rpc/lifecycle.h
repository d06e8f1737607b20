// SPDX-License-Identifier: Apache-2.0
//
// From listening to the last goodbye: what health tells, and in which order a server that is told to stop
// lets go.
#ifndef HEADLIGHT_SERVER_RPC_LIFECYCLE_H_
#define HEADLIGHT_SERVER_RPC_LIFECYCLE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/rpc/call_ledger.h"
#include "server/rpc/connection_book.h"
#include "server/rpc/health_board.h"
#include "server/rpc/listener.h"

namespace headlight {

struct DrainOptions {
  // Requests are still admitted for so long after health has said NOT_SERVING: balancers hear of it late.
  std::chrono::steady_clock::duration lame_duck{};
  // How long what was read may take to be answered, after that.
  std::chrono::steady_clock::duration grace{};
};

// Starting -> serving -> lame duck -> draining -> closed. Thread-safe.
class Lifecycle {
 public:
  // `server` serves `services` to the `connections` that `listener` accepts. All of them must outlive this.
  // Health says NOT_SERVING for everything until Serve.
  Lifecycle(grpc::Server& server, HealthBoard& board, CallLedger& ledger, Listener& listener,
            ConnectionBook& connections, const std::vector<std::string>& services);

  // From now on health tells what SetHealth was and is told.
  void Serve();

  // What grpc.health.v1 says of "models/NAME" and the like. The server as a whole, "" and `services`,
  // serves while any of them does.
  void SetHealth(const std::string& model, bool serving);

  // What `model`, such as "models/NAME", computes is right, or no longer: then it does not serve, whatever
  // SetHealth says.
  void SetRight(const std::string& model, bool right);

  // NOT_SERVING, then the lame duck's time, then reads nothing more, answers what was read and closes. Once.
  // DEADLINE_EXCEEDED if requests had to be cut off.
  absl::Status Drain(const DrainOptions& options);

 private:
  enum class Phase { kStarting, kServing, kClosing };

  void Tell();  // requires mutex_

  grpc::Server& server_;
  HealthBoard& board_;
  CallLedger& ledger_;
  Listener& listener_;
  ConnectionBook& connections_;
  std::vector<std::string> whole_;  // "" and the services
  std::mutex mutex_;
  Phase phase_ = Phase::kStarting;      // guarded by mutex_
  std::map<std::string, bool> health_;  // guarded by mutex_; what Serve will tell
  std::set<std::string> wrong_;         // guarded by mutex_; models by what SetRight says
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_LIFECYCLE_H_
