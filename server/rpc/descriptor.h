// SPDX-License-Identifier: Apache-2.0
//
// A file descriptor with an owner.
#ifndef HEADLIGHT_SERVER_RPC_DESCRIPTOR_H_
#define HEADLIGHT_SERVER_RPC_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace headlight {

// Closes it at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~Descriptor() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }  // the caller closes it
  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_DESCRIPTOR_H_
