// SPDX-License-Identifier: Apache-2.0
//
// NumPy .npz archives, which numpy.savez and numpy.savez_compressed write: .npy files (npy.h) by name in a
// zip file (zip.h). Archives of unknown origin may be read.
#ifndef HEADLIGHT_CLIENT_FILES_NPZ_H_
#define HEADLIGHT_CLIENT_FILES_NPZ_H_

#include <cstdint>
#include <fstream>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/files/zip.h"
#include "client/npy.h"

namespace headlight::client {

// Whether the file begins as an archive does; false too if it cannot be opened.
bool IsNpzFile(const std::string& path);

// An archive that is open. Movable; one thread at a time. Every message begins with the path, and with the
// name of the array that it is about.
class NpzReader {
 public:
  // NOT_FOUND if the file cannot be opened, INVALID_ARGUMENT if it is not an archive of .npy files only.
  // Arrays of over `max_bytes` together, headers included, are refused here: reading takes as much memory as
  // they have, and as the one being read once more if its type is converted.
  static absl::StatusOr<NpzReader> Open(const std::string& path, int64_t max_bytes);

  // Of the arrays, without ".npy", in the order of the archive.
  std::vector<std::string> names() const;
  bool Has(const std::string& name) const;

  // As ReadNpyTensor and its kin; NOT_FOUND if there is no such array. `dtype`, if not null, gets what the
  // numbers are stored as.
  absl::StatusOr<Tensor> ReadTensor(const std::string& name, std::string* dtype = nullptr);
  absl::StatusOr<Mask> ReadMask(const std::string& name, std::string* dtype = nullptr);
  absl::StatusOr<Ids> ReadIds(const std::string& name, std::string* dtype = nullptr);

 private:
  NpzReader(std::string path, std::unique_ptr<std::ifstream> file, std::vector<ZipEntry> entries);

  template <typename Read>
  auto ReadArray(const std::string& name, Read read)
      -> decltype(read(std::declval<std::istream&>(), std::declval<int64_t>()));

  std::string path_;
  std::unique_ptr<std::ifstream> file_;
  std::vector<ZipEntry> entries_;
};

// Writes what numpy.load reads: arrays one by one, stored as numpy.savez does.
class NpzWriter {
 public:
  explicit NpzWriter(const std::string& path);

  // Names must differ.
  void Add(const std::string& name, const Tensor& tensor, NpyFloat dtype = NpyFloat::kF32);
  void Add(const std::string& name, const IntTensor& tensor);
  void Add(const std::string& name, const ByteTensor& tensor);

  // UNAVAILABLE, with the path, if the file could not be written.
  absl::Status Finish();

 private:
  void AddNpy(const std::string& name, const std::string& header, std::span<const char> values);

  std::string path_;
  std::ofstream file_;
  ZipWriter zip_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_FILES_NPZ_H_
