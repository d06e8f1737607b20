// SPDX-License-Identifier: Apache-2.0
//
// Follows what a name resolves to.
#ifndef HEADLIGHT_CLIENT_RPC_NAME_WATCH_H_
#define HEADLIGHT_CLIENT_RPC_NAME_WATCH_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace headlight::client {

class NameWatch {
 public:
  using LookUpFunction = std::function<std::vector<std::string>()>;

  // On a thread of its own: looks up at once and every `interval`, and hands over what there was. `look_up`
  // may take long, and may still run after the end of this; `on_addresses` does not.
  NameWatch(LookUpFunction look_up, std::chrono::milliseconds interval,
            std::function<void(const std::vector<std::string>&)> on_addresses);
  NameWatch(const NameWatch&) = delete;
  NameWatch& operator=(const NameWatch&) = delete;
  ~NameWatch();  // does not wait for a look-up

 private:
  struct State;
  std::shared_ptr<State> state_;  // the thread has it too
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_NAME_WATCH_H_
