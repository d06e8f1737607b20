// SPDX-License-Identifier: Apache-2.0
//
// How a load that is under way is watched.
#ifndef HEADLIGHT_CLIENT_CLI_PROGRESS_H_
#define HEADLIGHT_CLIENT_CLI_PROGRESS_H_

#include <ostream>
#include <string>

#include "client/cli/commands.h"
#include "client/load/load_run.h"

namespace headlight::client {

// A line that is written over and over; silent where nobody watches.
class ProgressLine {
 public:
  explicit ProgressLine(const Streams& streams);
  void Show(const std::string& what, const LoadProgress& progress);
  void Erase();

 private:
  std::ostream& err_;
  bool is_terminal_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_PROGRESS_H_
