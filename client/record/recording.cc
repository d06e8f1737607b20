// SPDX-License-Identifier: Apache-2.0
#include "client/record/recording.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <ios>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/wire/crc32c.h"

namespace headlight::client {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "frames are little-endian and copied as they are");

constexpr std::string_view kRecordingBegins = "headlight recording 1\n";
constexpr int64_t kFrameBytes = 8;

uint32_t Crc32cOf(const std::string& bytes) { return ExtendCrc32c(0, std::as_bytes(std::span(bytes))); }

// Nothing there yet, so that a recording can begin.
bool IsAbsentOrEmpty(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  return !fs::exists(status) || (fs::is_regular_file(status) && fs::file_size(path, error) == 0);
}

std::string Framed(const std::string& message) {
  const uint32_t frame[] = {static_cast<uint32_t>(message.size()), Crc32cOf(message)};
  std::string framed(kFrameBytes, '\0');
  std::memcpy(framed.data(), frame, sizeof(frame));
  return framed + message;
}

absl::Status CannotBeWritten(const std::string& path, int reason) {
  return absl::UnavailableError(absl::StrCat(path, ": cannot be written: ", std::strerror(reason)));
}

// Made if it is absent, and nobody else's while this lives: of two programs that append, one waits.
class FileToAppend {
 public:
  explicit FileToAppend(const std::string& path)
      : fd_(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)),
        locked_(fd_ >= 0 && Lock()) {}
  ~FileToAppend() {
    if (fd_ >= 0) close(fd_);
  }
  FileToAppend(const FileToAppend&) = delete;
  FileToAppend& operator=(const FileToAppend&) = delete;

  bool ok() const { return locked_; }
  int fd() const { return fd_; }

  // 0, or why not all of it was written.
  int Write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return 0;
  }

 private:
  bool Lock() const {
    int result = 0;
    do {
      result = flock(fd_, LOCK_EX);
    } while (result != 0 && errno == EINTR);
    return result == 0;
  }

  const int fd_;
  const bool locked_;
};

}  // namespace

RecordingReader::RecordingReader(std::string path, std::ifstream in, int64_t left_bytes)
    : path_(std::move(path)), in_(std::move(in)), left_bytes_(left_bytes) {}

absl::StatusOr<RecordingReader> RecordingReader::Open(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return absl::NotFoundError(absl::StrCat(path, ": there is no such file"));
  if (!fs::is_regular_file(status))
    return absl::InvalidArgumentError(absl::StrCat(path, ": is no regular file"));
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
  std::string begins(kRecordingBegins.size(), '\0');
  if (!in.read(begins.data(), static_cast<std::streamsize>(begins.size())) || begins != kRecordingBegins) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": is no recording: wanted one that begins with the line \"headlight recording 1\""));
  }
  const auto left_bytes = static_cast<int64_t>(fs::file_size(path, error) - begins.size());
  return RecordingReader(path, std::move(in), left_bytes);
}

absl::Status RecordingReader::Damaged(const std::string& how) const {
  return absl::DataLossError(absl::StrCat(path_, ": exchange ", number_, " ", how));
}

absl::StatusOr<std::optional<RecordingReader::Frame>> RecordingReader::NextFrame() {
  if (left_bytes_ == 0) return std::nullopt;
  ++number_;
  char bytes[kFrameBytes];
  if (left_bytes_ < kFrameBytes || !in_.read(bytes, kFrameBytes)) return Damaged("is cut off");
  Frame frame;
  std::memcpy(&frame.size_bytes, bytes, sizeof(frame.size_bytes));
  std::memcpy(&frame.crc32c, bytes + sizeof(frame.size_bytes), sizeof(frame.crc32c));
  left_bytes_ -= kFrameBytes;
  if (frame.size_bytes > kMaxExchangeBytes) {
    return Damaged(
        absl::StrCat("claims ", frame.size_bytes, " bytes, at most ", kMaxExchangeBytes, " are allowed"));
  }
  if (frame.size_bytes > left_bytes_) {
    return Damaged(absl::StrCat("is cut off: ", left_bytes_, " of ", frame.size_bytes, " bytes are there"));
  }
  left_bytes_ -= frame.size_bytes;
  return frame;
}

absl::StatusOr<std::optional<v1::RecordedExchange>> RecordingReader::Next() {
  const absl::StatusOr<std::optional<Frame>> frame = NextFrame();
  if (!frame.ok()) return frame.status();
  if (!frame->has_value()) return std::nullopt;
  std::string message((*frame)->size_bytes, '\0');
  if (!in_.read(message.data(), static_cast<std::streamsize>(message.size())))
    return Damaged("cannot be read");
  if (const uint32_t crc = Crc32cOf(message); crc != (*frame)->crc32c) {
    return Damaged(absl::StrCat("is damaged: its CRC-32C is ", absl::Hex(crc, absl::kZeroPad8), ", wanted ",
                                absl::Hex((*frame)->crc32c, absl::kZeroPad8)));
  }
  v1::RecordedExchange exchange;
  if (!exchange.ParseFromString(message)) return Damaged("is no RecordedExchange");
  return exchange;
}

absl::StatusOr<bool> RecordingReader::Skip() {
  const absl::StatusOr<std::optional<Frame>> frame = NextFrame();
  if (!frame.ok()) return frame.status();
  if (!frame->has_value()) return false;
  if (!in_.seekg((*frame)->size_bytes, std::ios::cur)) return Damaged("cannot be read");
  return true;
}

absl::StatusOr<int64_t> CountExchanges(const std::string& path) {
  if (IsAbsentOrEmpty(path)) return 0;
  absl::StatusOr<RecordingReader> reader = RecordingReader::Open(path);
  if (!reader.ok()) return reader.status();
  for (int64_t count = 0;; ++count) {
    const absl::StatusOr<bool> skipped = reader->Skip();
    if (!skipped.ok()) return skipped.status();
    if (!*skipped) return count;
  }
}

absl::Status CheckAppendable(const std::string& path) {
  const absl::StatusOr<int64_t> count = CountExchanges(path);
  if (!count.ok()) return count.status();
  std::error_code error;
  const bool exists = fs::exists(path, error);
  const fs::path folder = fs::path(path).parent_path();
  const int result =
      exists ? access(path.c_str(), W_OK) : access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK);
  return result == 0 ? absl::OkStatus() : CannotBeWritten(path, errno);
}

absl::StatusOr<int64_t> AppendExchange(const v1::RecordedExchange& exchange, const std::string& path) {
  const auto size_bytes = static_cast<int64_t>(exchange.ByteSizeLong());
  if (size_bytes > kMaxExchangeBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": an exchange of ", size_bytes,
                                                   " bytes cannot be recorded, at most ", kMaxExchangeBytes));
  }
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) return RecordingReader::Open(path).status();
  const FileToAppend file(path);
  if (!file.ok()) return CannotBeWritten(path, errno);
  const absl::StatusOr<int64_t> count = CountExchanges(path);
  if (!count.ok()) return count.status();
  const off_t size_before = lseek(file.fd(), 0, SEEK_END);
  std::string bytes = Framed(exchange.SerializeAsString());
  if (size_before == 0) bytes.insert(0, kRecordingBegins);
  const int reason = file.Write(bytes);
  if (reason == 0) return *count + 1;
  if (ftruncate(file.fd(), size_before) != 0) {
    return absl::DataLossError(
        absl::StrCat(path, ": cannot be written, and what was written stays: ", std::strerror(reason)));
  }
  return CannotBeWritten(path, reason);
}

}  // namespace headlight::client
