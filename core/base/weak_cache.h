// SPDX-License-Identifier: Apache-2.0
//
// Immutable things that are costly to make and the same for everybody in the process who asks for them.
#ifndef HEADLIGHT_CORE_BASE_WEAK_CACHE_H_
#define HEADLIGHT_CORE_BASE_WEAK_CACHE_H_

#include <map>
#include <memory>
#include <mutex>

namespace headlight {

// Knows what somebody still holds, and keeps nothing alive. Thread-safe; one at a time is made.
template <typename Key, typename Value>
class WeakCache {
 public:
  // What is held for the key, or make(), a std::shared_ptr<const Value>; throws as that does.
  template <typename Make>
  std::shared_ptr<const Value> Get(const Key& key, const Make& make) {
    const std::lock_guard lock(mutex_);
    if (const auto known = values_.find(key); known != values_.end()) {
      if (std::shared_ptr<const Value> value = known->second.lock()) return value;
    }
    std::erase_if(values_, [](const auto& entry) { return entry.second.expired(); });
    std::shared_ptr<const Value> value = make();
    values_[key] = value;
    return value;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::weak_ptr<const Value>> values_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_WEAK_CACHE_H_
