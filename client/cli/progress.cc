// SPDX-License-Identifier: Apache-2.0
#include "client/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <iostream>

#include "absl/strings/str_format.h"

namespace headlight::client {
namespace {

constexpr char kErase[] = "\r\033[K";

}  // namespace

ProgressLine::ProgressLine(const Streams& streams)
    : err_(streams.err), is_terminal_(&streams.err == &std::cerr && isatty(STDERR_FILENO) == 1) {}

void ProgressLine::Erase() {
  if (is_terminal_) err_ << kErase << std::flush;
}

void ProgressLine::Show(const std::string& what, const LoadProgress& progress) {
  if (!is_terminal_) return;
  const double elapsed_s = static_cast<double>(progress.elapsed.count()) / 1e9;
  const double planned_s = static_cast<double>(progress.planned.count()) / 1e9;
  err_ << kErase << what << absl::StrFormat(": %.0f", elapsed_s)
       << (planned_s > 0 ? absl::StrFormat(" of %.0f s, ", planned_s) : " s, ")
       << absl::StrFormat("%.0f replies/s, %d refused, %d in flight",
                          static_cast<double>(progress.replies) / elapsed_s, progress.refused,
                          std::max<int64_t>(0, progress.sent - progress.replies - progress.refused))
       << std::flush;
}

}  // namespace headlight::client
