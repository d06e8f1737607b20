// SPDX-License-Identifier: Apache-2.0
//
// The owner of aligned memory. Everything that the kernels read or write lives in one of these.
#ifndef HEADLIGHT_CORE_TENSOR_BUFFER_H_
#define HEADLIGHT_CORE_TENSOR_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace headlight {

inline constexpr int64_t kCacheLineBytes = 64;

// A block of bytes aligned to 64 (a cache line and a full AVX-512 register); blocks of 2 MiB and more are
// aligned to 2 MiB and offered to the kernel as huge pages. Contents are not initialised. Movable, not
// copyable.
class Buffer {
 public:
  Buffer() = default;

  // At least size_bytes bytes. A null buffer (ok() false) when memory is short: nothing throws.
  static Buffer Allocate(int64_t size_bytes);

  // What Allocate takes.
  static int64_t RoundedBytes(int64_t size_bytes);

  // Makes room for size_bytes, keeping the block if it is large enough, else replacing it by one of
  // ReservedBytes; contents are lost. False when memory is short; the buffer is then empty.
  bool Reserve(int64_t size_bytes);

  // What Reserve takes where it takes anything: up to a quarter more from 256 KiB on, in four steps for each
  // doubling, so that sizes that grow slowly replace the block, whose pages must then all be mapped again, a
  // few times and no more. It depends on the size alone, not on what was held before: what buffers hold that
  // have seen several sizes is that of the largest, in closed form. The surplus takes no memory until
  // something is written there.
  static int64_t ReservedBytes(int64_t size_bytes);

  // What Reserve would take more than is held.
  int64_t GrowthFor(int64_t size_bytes) const;

  // Gives the block back if all that Reserve was asked for since the last time has filled less than half of
  // it.
  void GiveBackUnused();

  bool ok() const { return data_ != nullptr; }
  int64_t size_bytes() const { return size_bytes_; }
  std::byte* bytes() const { return data_.get(); }
  template <typename T>
  T* As() const {
    return static_cast<T*>(static_cast<void*>(data_.get()));
  }
  float* floats() const { return As<float>(); }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  int64_t size_bytes_ = 0;
  int64_t asked_bytes_ = 0;  // of Reserve at most, since GiveBackUnused
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_BUFFER_H_
