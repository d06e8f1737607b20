// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/listener.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/epoll_watch.h"

namespace headlight {
namespace {

// What an event is about: a connection by its id in the book, a listening socket by its descriptor, or the
// end.
constexpr uint64_t kStop = 0;
constexpr uint64_t kListening = uint64_t{1} << 63;

// Accepted at a time, so that ends of others are heard of in between.
constexpr int kAcceptsAtOnce = 64;

// Until the next try, when the system lets nothing be accepted, not even to close it.
constexpr int kRestMs = 50;

Descriptor OpenReserve() { return Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

Listener::Listener(ListenSockets sockets, ConnectionBook& book, Serve serve)
    : sockets_(std::move(sockets)), book_(book), serve_(std::move(serve)) {}

Listener::~Listener() { Stop(); }

absl::Status Listener::Start() {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  stop_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  reserve_ = OpenReserve();
  if (!epoll_.valid() || !stop_.valid() || !reserve_.valid() ||
      !Watch(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), EPOLLIN, kStop)) {
    return absl::UnavailableError(absl::StrCat("cannot listen: ", std::strerror(errno)));
  }
  WatchSockets(true);
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void Listener::Stop() {
  if (thread_.joinable()) {
    (void)eventfd_write(stop_.get(), 1);
    thread_.join();
  }
  sockets_.sockets.clear();
  if (!sockets_.path.empty()) unlink(std::exchange(sockets_.path, "").c_str());
}

void Listener::WatchSockets(bool watch) {
  for (const Descriptor& socket : sockets_.sockets) {
    if (watch) {
      (void)Watch(epoll_.get(), EPOLL_CTL_ADD, socket.get(), EPOLLIN,
                  kListening | static_cast<uint64_t>(socket.get()));
    } else {
      (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket.get(), nullptr);
    }
  }
}

void Listener::Run() {
  std::array<epoll_event, 256> events;
  while (true) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), resting_ ? kRestMs : -1);
    if (resting_) WatchSockets(true);
    resting_ = false;
    for (int i = 0; i < count; ++i) {
      const uint64_t about = events[static_cast<size_t>(i)].data.u64;
      if (about == kStop) return;
      if ((about & kListening) != 0) {
        AcceptFrom(static_cast<int>(about & ~kListening));
      } else {
        book_.Leave(about);
      }
    }
  }
}

void Listener::AcceptFrom(int socket) {
  for (int i = 0; i < kAcceptsAtOnce && !resting_; ++i) {
    const int fd = accept4(socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      AcceptOne(fd);
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        RefuseOne(socket);
        break;
      default:  // that connection has gone already, or its network has
        break;
    }
  }
}

void Listener::AcceptOne(int fd) {
  Descriptor accepted(fd);
  const std::optional<ConnectionBook::Entered> entered = book_.Enter(fd);
  if (!entered) return;
  // Nothing is asked for: what has ended is told of always (EPOLLHUP), when both directions are closed. Once:
  // gRPC keeps its descriptor, and with it this watch, until the last call of the connection has gone.
  if (!Watch(epoll_.get(), EPOLL_CTL_ADD, entered->fd, EPOLLONESHOT, entered->id))
    return book_.Leave(entered->id);
  serve_(accepted.Release());
}

void Listener::RefuseOne(int socket) {
  reserve_.Reset();
  const int fd = accept4(socket, nullptr, nullptr, SOCK_CLOEXEC);
  const bool nobody_waits = fd < 0 && errno == EAGAIN;
  if (fd >= 0) {
    close(fd);
    book_.NoteNoDescriptor();
  }
  reserve_ = OpenReserve();
  if (fd >= 0 || nobody_waits) return;
  resting_ = true;
  WatchSockets(false);
}

}  // namespace headlight
