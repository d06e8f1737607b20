// SPDX-License-Identifier: Apache-2.0
//
// Tensors that do not travel: a caller on the same machine names a place in POSIX shared memory, the server
// reads inputs from there and writes outputs there. Files are read and written, never mapped: what a caller
// cuts short while it is in use is then an error of that request, not the end of the server, and what was
// read cannot change between its check and its use.
#ifndef HEADLIGHT_SERVER_OIP_SHARED_MEMORY_H_
#define HEADLIGHT_SERVER_OIP_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/memory/buffer_pool.h"
#include "server/oip/tensor_regions.h"

namespace headlight {

// A region as its caller registered it.
struct SharedRegion {
  std::string name;        // what requests call it
  std::string key;         // of shm_open: one component of a path, perhaps behind a slash
  uint64_t offset = 0;     // where in the file it begins
  uint64_t byte_size = 0;  // at least 1
};

struct SharedMemoryLimits {
  size_t max_regions_of_tenant = 256;
  size_t max_regions = 1024;               // of all: each holds a descriptor
  uint64_t max_tensor_bytes = UINT64_MAX;  // read at once, as much as a message may bring
};

// What PERMISSION_DENIED says where there is no SharedMemoryRegions at all.
absl::Status SharedMemoryNotAllowed();

// Thread-safe. Every function takes the tenant who calls (Identity::tenant): others' regions do not exist for
// it, neither their names nor their number. What is in the files is the system's matter: a caller may name
// every object of shared memory that the server's user may read and write.
class SharedMemoryRegions final : public TensorRegions {
 public:
  // Buffers for what is read are those of `pool`, which must outlive this.
  explicit SharedMemoryRegions(BufferPool& pool, const SharedMemoryLimits& limits = {},
                               std::string folder = "/dev/shm");
  ~SharedMemoryRegions() override;

  // INVALID_ARGUMENT: the name or the key is none, the region does not lie in the file, the key is none of a
  // regular file. NOT_FOUND, PERMISSION_DENIED and others as the system says. ALREADY_EXISTS: the tenant has
  // one of that name, also if it is the same place. RESOURCE_EXHAUSTED: too many regions.
  absl::Status Register(const std::string& tenant, const SharedRegion& region);

  // Whether there was one makes no difference. Reads and writes under way go on.
  void Unregister(const std::string& tenant, const std::string& name);
  void UnregisterAll(const std::string& tenant);

  // The tenant's regions by name; with a name that one alone, or NOT_FOUND.
  absl::StatusOr<std::vector<SharedRegion>> List(const std::string& tenant, const std::string& name) const;

  // NOT_FOUND: there is no such region. INVALID_ARGUMENT: it has not so many bytes there.
  absl::Status Check(const std::string& tenant, const TensorPlace& place) const override;

  // As Check, and INVALID_ARGUMENT: the file has become too short, or it is more than the limit.
  // RESOURCE_EXHAUSTED: no memory. Not atomic: what somebody writes meanwhile may be there in parts.
  absl::StatusOr<TensorBytes> Read(const std::string& tenant, const TensorPlace& place) const override;

  // As Check, and INVALID_ARGUMENT: the file has become too short; it is never made longer.
  absl::Status Write(const std::string& tenant, const TensorPlace& place,
                     std::span<const std::span<const std::byte>> pieces) const override;

 private:
  class File;
  struct Registered {
    SharedRegion region;
    std::shared_ptr<const File> file;  // shared with reads and writes under way
  };
  using Key = std::pair<std::string, std::string>;  // tenant, name

  absl::Status CheckRoom(const Key& key) const;  // under mutex_
  absl::StatusOr<Registered> Find(const std::string& tenant, const TensorPlace& place) const;

  BufferPool& pool_;
  const SharedMemoryLimits limits_;
  const std::string folder_;
  mutable std::mutex mutex_;
  std::map<Key, Registered> regions_;  // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_SHARED_MEMORY_H_
