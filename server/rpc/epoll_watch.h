// SPDX-License-Identifier: Apache-2.0
//
// Asks epoll to tell of a descriptor.
#ifndef HEADLIGHT_SERVER_RPC_EPOLL_WATCH_H_
#define HEADLIGHT_SERVER_RPC_EPOLL_WATCH_H_

#include <sys/epoll.h>

#include <cstdint>

namespace headlight {

// `data` comes back with what is told. `operation`: EPOLL_CTL_ADD, or EPOLL_CTL_MOD to ask again. False: errno
// says why.
inline bool Watch(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epoll, operation, fd, &event) == 0;
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_EPOLL_WATCH_H_
