// SPDX-License-Identifier: Apache-2.0
#include "server/oip/shared_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr size_t kMaxRegionNameBytes = 256;
constexpr size_t kMaxKeyBytes = 255;  // of one component of a path
constexpr uint64_t kMaxFileBytes = std::numeric_limits<int64_t>::max();

absl::Status CheckRegionName(const std::string& name) {
  if (name.empty())
    return absl::InvalidArgumentError("name: got none, wanted what requests will call the region");
  if (name.size() <= kMaxRegionNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("name: got ", name.size(), " bytes, wanted at most ", kMaxRegionNameBytes));
}

// The name of the file, without the slash that shm_open takes.
absl::StatusOr<std::string> FileOfKey(const std::string& key) {
  const std::string file = key.substr(key.starts_with('/') ? 1 : 0);
  const bool component = !file.empty() && file != "." && file != ".." && file.size() <= kMaxKeyBytes &&
                         file.find('/') == std::string::npos && file.find('\0') == std::string::npos;
  if (component) return file;
  return absl::InvalidArgumentError(
      absl::StrCat("key: got ", Quoted(key),
                   ", wanted the name of a shared memory object as shm_open takes "
                   "it: at most ",
                   kMaxKeyBytes, " bytes, without a slash but the first"));
}

// Whether [offset, offset + bytes) lies within [0, size), without a sum that could overflow.
bool LiesWithin(uint64_t offset, uint64_t bytes, uint64_t size) {
  return offset <= size && bytes <= size - offset;
}

absl::Status KeyError(const std::string& key, const char* what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("key: got ", Quoted(key), ", cannot ", what));
}

absl::Status RegionError(const SharedRegion& region, const char* what) {
  return absl::ErrnoToStatus(
      errno, absl::StrCat("shared_memory_region: got ", Quoted(region.name), ", cannot ", what));
}

absl::Status FileTooShort(const SharedRegion& region, uint64_t file_bytes) {
  return absl::InvalidArgumentError(absl::StrCat(
      "shared_memory_region: the file of ", Quoted(region.name), " has become shorter: got ", file_bytes,
      " bytes, wanted what was registered, ", region.byte_size, " bytes from ", region.offset, " on"));
}

}  // namespace

// An object of shared memory, open for reading and writing.
class SharedMemoryRegions::File {
 public:
  static absl::StatusOr<std::shared_ptr<const File>> Open(const std::string& folder, const std::string& key) {
    HEADLIGHT_ASSIGN_OR_RETURN(const std::string name, FileOfKey(key));
    const std::string path = absl::StrCat(folder, "/", name);
    // What the key names may be anything: neither a link is followed nor anybody waited for at a pipe's other
    // end.
    const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0 && (errno == ELOOP || errno == EISDIR || errno == ENXIO)) return NotRegular(key);
    if (descriptor < 0) return KeyError(key, "open it for reading and writing");
    std::shared_ptr<const File> file(new File(descriptor));
    struct stat info;
    if (fstat(descriptor, &info) != 0) return KeyError(key, "look at it");
    if (!S_ISREG(info.st_mode)) return NotRegular(key);
    return file;
  }

  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  absl::StatusOr<uint64_t> Size(const SharedRegion& region) const {
    struct stat info;
    if (fstat(descriptor_, &info) != 0) return RegionError(region, "look at it");
    return static_cast<uint64_t>(info.st_size);
  }

  absl::Status ReadAt(const SharedRegion& region, uint64_t offset, std::span<std::byte> to) const {
    while (!to.empty()) {
      const ssize_t done = pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return RegionError(region, "read it");
      if (done == 0) return FileTooShort(region, offset);
      to = to.subspan(static_cast<size_t>(done));
      offset += static_cast<uint64_t>(done);
    }
    return absl::OkStatus();
  }

  absl::Status WriteAt(const SharedRegion& region, uint64_t offset, std::span<const std::byte> from) const {
    while (!from.empty()) {
      const ssize_t done = pwrite(descriptor_, from.data(), from.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return RegionError(region, "write it");
      from = from.subspan(static_cast<size_t>(done));
      offset += static_cast<uint64_t>(done);
    }
    return absl::OkStatus();
  }

 private:
  explicit File(int descriptor) : descriptor_(descriptor) {}

  static absl::Status NotRegular(const std::string& key) {
    return absl::InvalidArgumentError(
        absl::StrCat("key: got ", Quoted(key), ", a link, a folder or a special file, wanted shared memory"));
  }

  const int descriptor_;
};

absl::Status SharedMemoryNotAllowed() {
  return absl::PermissionDeniedError(
      "callers may not name shared memory here; the server allows it with --allow-shared-memory");
}

SharedMemoryRegions::SharedMemoryRegions(BufferPool& pool, const SharedMemoryLimits& limits,
                                         std::string folder)
    : pool_(pool), limits_(limits), folder_(std::move(folder)) {}

SharedMemoryRegions::~SharedMemoryRegions() = default;

absl::Status SharedMemoryRegions::CheckRoom(const Key& key) const {
  if (regions_.contains(key)) {
    return absl::AlreadyExistsError(absl::StrCat("name: got ", Quoted(key.second),
                                                 ", which is registered; wanted another, or that it is "
                                                 "unregistered first"));
  }
  const auto of_tenant = [&](const auto& entry) { return entry.first.first == key.first; };
  const auto num_of_tenant = static_cast<size_t>(std::count_if(regions_.begin(), regions_.end(), of_tenant));
  if (num_of_tenant >= limits_.max_regions_of_tenant) {
    return absl::ResourceExhaustedError(absl::StrCat("regions: got one more than the ", num_of_tenant,
                                                     " that are registered, wanted at most ",
                                                     limits_.max_regions_of_tenant));
  }
  if (regions_.size() < limits_.max_regions) return absl::OkStatus();
  return absl::ResourceExhaustedError("regions: the server has as many as it takes of all callers together");
}

absl::Status SharedMemoryRegions::Register(const std::string& tenant, const SharedRegion& region) {
  HEADLIGHT_RETURN_IF_ERROR(CheckRegionName(region.name));
  const Key key{tenant, region.name};
  {
    // Before a file is opened: names that are taken and full tables cost no descriptor.
    const std::lock_guard lock(mutex_);
    HEADLIGHT_RETURN_IF_ERROR(CheckRoom(key));
  }
  if (region.byte_size == 0) return absl::InvalidArgumentError("byte_size: got 0, wanted at least 1");
  HEADLIGHT_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::Open(folder_, region.key));
  HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t file_bytes, file->Size(region));
  if (!LiesWithin(region.offset, region.byte_size, std::min(file_bytes, kMaxFileBytes))) {
    return absl::InvalidArgumentError(absl::StrCat("byte_size: got ", region.byte_size, " from offset ",
                                                   region.offset, " on, wanted what lies in the ", file_bytes,
                                                   " bytes of ", Quoted(region.key)));
  }
  const std::lock_guard lock(mutex_);
  HEADLIGHT_RETURN_IF_ERROR(CheckRoom(key));
  regions_.emplace(key, Registered{region, std::move(file)});
  return absl::OkStatus();
}

void SharedMemoryRegions::Unregister(const std::string& tenant, const std::string& name) {
  // Its file is closed without the lock: the last descriptor of an object that has no name any more frees it.
  decltype(regions_)::node_type gone;
  const std::lock_guard lock(mutex_);
  gone = regions_.extract({tenant, name});
}

void SharedMemoryRegions::UnregisterAll(const std::string& tenant) {
  std::vector<decltype(regions_)::node_type> gone;  // as above
  const std::lock_guard lock(mutex_);
  for (auto entry = regions_.begin(); entry != regions_.end();) {
    const auto at = entry++;
    if (at->first.first == tenant) gone.push_back(regions_.extract(at));
  }
}

absl::StatusOr<std::vector<SharedRegion>> SharedMemoryRegions::List(const std::string& tenant,
                                                                    const std::string& name) const {
  const std::lock_guard lock(mutex_);
  std::vector<SharedRegion> regions;
  for (const auto& [key, registered] : regions_) {
    if (key.first == tenant && (name.empty() || key.second == name)) regions.push_back(registered.region);
  }
  if (!name.empty() && regions.empty()) {
    return absl::NotFoundError(
        absl::StrCat("name: got ", Quoted(name), ", wanted a region that this caller has registered"));
  }
  return regions;
}

absl::StatusOr<SharedMemoryRegions::Registered> SharedMemoryRegions::Find(const std::string& tenant,
                                                                          const TensorPlace& place) const {
  Registered found;
  {
    const std::lock_guard lock(mutex_);
    const auto entry = regions_.find({tenant, place.region});
    if (entry == regions_.end()) {
      return absl::NotFoundError(absl::StrCat("shared_memory_region: got ", Quoted(place.region),
                                              ", wanted a region that this caller has registered"));
    }
    found = entry->second;
  }
  if (LiesWithin(place.offset, place.byte_size, found.region.byte_size)) return found;
  return absl::InvalidArgumentError(absl::StrCat(
      "shared_memory_byte_size: got ", place.byte_size, " from shared_memory_offset ", place.offset,
      " on, wanted what lies in the ", found.region.byte_size, " bytes of region ", Quoted(place.region)));
}

absl::Status SharedMemoryRegions::Check(const std::string& tenant, const TensorPlace& place) const {
  return Find(tenant, place).status();
}

absl::StatusOr<TensorBytes> SharedMemoryRegions::Read(const std::string& tenant,
                                                      const TensorPlace& place) const {
  HEADLIGHT_ASSIGN_OR_RETURN(const Registered found, Find(tenant, place));
  if (place.byte_size == 0) return TensorBytes{};
  if (place.byte_size > limits_.max_tensor_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("shared_memory_byte_size: got ", place.byte_size,
                                                   ", wanted at most ", limits_.max_tensor_bytes,
                                                   " as in a message (--max-message-bytes)"));
  }
  // A file may be huge and empty: what it has to give is looked at before memory is taken for it.
  HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t file_bytes, found.file->Size(found.region));
  if (!LiesWithin(found.region.offset, found.region.byte_size, file_bytes))
    return FileTooShort(found.region, file_bytes);
  const auto size_bytes = static_cast<int64_t>(place.byte_size);
  const std::shared_ptr<PooledBuffer> buffer = pool_.Acquire(size_bytes);
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("shared_memory_byte_size: got ", size_bytes,
                                                     " of region ", Quoted(place.region),
                                                     ", for which there is no memory now"));
  }
  HEADLIGHT_RETURN_IF_ERROR(found.file->ReadAt(found.region, found.region.offset + place.offset,
                                               {buffer->bytes(), place.byte_size}));
  buffer->Relabel(MemoryKind::kMessage);
  return TensorBytes{std::shared_ptr<const std::byte>(buffer, buffer->bytes()), size_bytes};
}

absl::Status SharedMemoryRegions::Write(const std::string& tenant, const TensorPlace& place,
                                        std::span<const std::span<const std::byte>> pieces) const {
  HEADLIGHT_ASSIGN_OR_RETURN(const Registered found, Find(tenant, place));
  uint64_t wanted_bytes = 0;
  for (const auto& piece : pieces) wanted_bytes += piece.size();
  if (wanted_bytes > place.byte_size) {
    return absl::InvalidArgumentError(absl::StrCat("shared_memory_byte_size: got ", place.byte_size,
                                                   ", wanted room for ", wanted_bytes, " bytes"));
  }
  // Writing behind the end would make the file longer.
  HEADLIGHT_ASSIGN_OR_RETURN(const uint64_t file_bytes, found.file->Size(found.region));
  if (!LiesWithin(found.region.offset, found.region.byte_size, file_bytes))
    return FileTooShort(found.region, file_bytes);
  uint64_t offset = found.region.offset + place.offset;
  for (const auto& piece : pieces) {
    HEADLIGHT_RETURN_IF_ERROR(found.file->WriteAt(found.region, offset, piece));
    offset += piece.size();
  }
  return absl::OkStatus();
}

}  // namespace headlight
