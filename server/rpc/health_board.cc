// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/health_board.h"

namespace headlight {

void HealthBoard::Set(const std::string& service, bool serving) {
  const std::lock_guard lock(mutex_);
  SetLocked(service, serving && !closed_ ? Health::kServing : Health::kNotServing);
}

void HealthBoard::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& [service, health] : health_) SetLocked(service, Health::kNotServing);
}

void HealthBoard::SetLocked(const std::string& service, Health health) {
  Health& known = health_[service];
  if (known == health) return;
  known = health;
  const auto watchers = watchers_.find(service);
  if (watchers == watchers_.end()) return;
  for (HealthWatcher* watcher : watchers->second) watcher->Tell(health);
}

Health HealthBoard::GetLocked(const std::string& service) const {
  const auto found = health_.find(service);
  return found == health_.end() ? Health::kUnknown : found->second;
}

Health HealthBoard::Get(const std::string& service) const {
  const std::lock_guard lock(mutex_);
  return GetLocked(service);
}

std::map<std::string, Health> HealthBoard::All() const {
  const std::lock_guard lock(mutex_);
  return health_;
}

void HealthBoard::Watch(const std::string& service, HealthWatcher& watcher) {
  const std::lock_guard lock(mutex_);
  watchers_[service].insert(&watcher);
  watcher.Tell(GetLocked(service));
}

void HealthBoard::Forget(const std::string& service, HealthWatcher& watcher) {
  const std::lock_guard lock(mutex_);
  const auto watchers = watchers_.find(service);
  if (watchers == watchers_.end()) return;
  watchers->second.erase(&watcher);
  if (watchers->second.empty()) watchers_.erase(watchers);
}

}  // namespace headlight
