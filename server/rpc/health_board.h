// SPDX-License-Identifier: Apache-2.0
//
// What health says of each service, and who wants to hear when that changes. Knows no gRPC.
#ifndef HEADLIGHT_SERVER_RPC_HEALTH_BOARD_H_
#define HEADLIGHT_SERVER_RPC_HEALTH_BOARD_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace headlight {

enum class Health : uint8_t { kUnknown, kNotServing, kServing };

class HealthWatcher {
 public:
  virtual ~HealthWatcher() = default;

  // Called with the board's lock held, so in the order of the changes: must not call the board, nor wait.
  virtual void Tell(Health health) = 0;
};

// Thread-safe.
class HealthBoard {
 public:
  void Set(const std::string& service, bool serving);

  // From now on everything that is known is not serving, whatever is set.
  void Close();

  Health Get(const std::string& service) const;
  std::map<std::string, Health> All() const;  // none is kUnknown

  // Tells `watcher` the state of `service` at once, kUnknown included, and every change until Forget has
  // returned.
  void Watch(const std::string& service, HealthWatcher& watcher);
  void Forget(const std::string& service, HealthWatcher& watcher);

 private:
  Health GetLocked(const std::string& service) const;         // requires mutex_
  void SetLocked(const std::string& service, Health health);  // requires mutex_

  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::string, Health> health_;
  std::map<std::string, std::set<HealthWatcher*>> watchers_;  // no entry is empty
  bool closed_ = false;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_HEALTH_BOARD_H_
