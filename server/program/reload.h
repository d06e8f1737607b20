// SPDX-License-Identifier: Apache-2.0
//
// What SIGHUP does: tokens and the log level as their files say now, whatever callers have set meanwhile, the
// rest as it was at the start.
#ifndef HEADLIGHT_SERVER_PROGRAM_RELOAD_H_
#define HEADLIGHT_SERVER_PROGRAM_RELOAD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/program/options.h"
#include "server/security/gate.h"

namespace headlight {

// Exchanges the tokens of `gate` for those of the file at `path`, all at once, and says what has changed, by
// names. Errors as ReadTokenFile; nothing has changed then.
absl::StatusOr<std::string> ReloadTokens(const std::string& path, Gate& gate);

// For one thread.
class Reload {
 public:
  // `arguments` are what ParseCommandLine was given, with the program's name in front, and `started_with` is
  // what it made of them. `gate` must outlive it.
  Reload(std::vector<std::string> arguments, const ServerOptions& started_with, Gate& gate);

  // Tells the log of all that has changed, of all that has and takes a restart, and in one line of what keeps
  // tokens or options as they are. Never fails.
  void Run();

 private:
  void RunTokens();
  void RunOptions();

  const std::vector<std::string> arguments_;
  const ServerOptions started_with_;
  Gate& gate_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_RELOAD_H_
