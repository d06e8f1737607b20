// SPDX-License-Identifier: Apache-2.0
//
// The file that exchanges are kept in; proto/headlight/v1/recording.proto has its form. It may come from
// anywhere: nothing in it is believed before it was checked, and of a file that lies about its size nothing is
// taken. An exchange of many empty fields becomes some 25 times as large in protobuf's memory, for as long as
// it is looked at.
#ifndef HEADLIGHT_CLIENT_RECORD_RECORDING_H_
#define HEADLIGHT_CLIENT_RECORD_RECORDING_H_

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "headlight/v1/recording.pb.h"

namespace headlight::client {

inline constexpr int64_t kMaxExchangeBytes = int64_t{1} << 28;

// Reads a recording from its beginning to its end. Not thread-safe.
class RecordingReader {
 public:
  // NOT_FOUND if there is no such file; INVALID_ARGUMENT if it is no recording.
  static absl::StatusOr<RecordingReader> Open(const std::string& path);

  // The next exchange, nothing at the end. DATA_LOSS, naming the file and the exchange's number from 1 on, if
  // the file ends in it or its bytes are not what was written; nothing can be read after that.
  absl::StatusOr<std::optional<v1::RecordedExchange>> Next();

  // The same without reading the exchange: whether there was one.
  absl::StatusOr<bool> Skip();

 private:
  // What stands before a message.
  struct Frame {
    uint32_t size_bytes = 0;
    uint32_t crc32c = 0;
  };

  RecordingReader(std::string path, std::ifstream in, int64_t left_bytes);

  absl::StatusOr<std::optional<Frame>> NextFrame();
  absl::Status Damaged(const std::string& how) const;  // the exchange number_

  std::string path_;
  std::ifstream in_;
  int64_t left_bytes_;  // up to the end of the file
  int64_t number_ = 0;  // of the exchange that was begun last
};

// How many exchanges the recording has, 0 where there is no file or an empty one. Errors as RecordingReader.
absl::StatusOr<int64_t> CountExchanges(const std::string& path);

// Whether AppendExchange could append, found out before there is anything to append: as CountExchanges, and
// UNAVAILABLE where the file may not be written, or begun in its folder. Changes nothing.
absl::Status CheckAppendable(const std::string& path);

// Appends the exchange, in one write, to the recording, which is begun where there is none. Returns its
// number, from 1 on. INVALID_ARGUMENT if it has more than kMaxExchangeBytes; UNAVAILABLE, naming the reason,
// if it cannot be written, and then the file is as before; else as CountExchanges.
absl::StatusOr<int64_t> AppendExchange(const v1::RecordedExchange& exchange, const std::string& path);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RECORD_RECORDING_H_
