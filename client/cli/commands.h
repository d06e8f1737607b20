// SPDX-License-Identifier: Apache-2.0
//
// What the commands of `headlight` have in common. Each lives in a file of its own, cli/NAME_command.cc, and
// is made known to the command line by its Add function here.
#ifndef HEADLIGHT_CLIENT_CLI_COMMANDS_H_
#define HEADLIGHT_CLIENT_CLI_COMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace headlight::client {

enum ExitCode : int { kExitOk = 0, kExitFailed = 1, kExitUsage = 2 };

struct Streams {
  std::ostream& out;
  std::ostream& err;
};

// A command with its flags bound; returns the exit code.
using Command = std::function<int(const Streams&)>;

// Adds one command to `app`. If the command line chooses it, parsing puts it into `chosen`, which must
// outlive `app`.
void AddAttendCommand(CLI::App& app, Command& chosen);
void AddCapacityCommand(CLI::App& app, Command& chosen);
void AddCompletionCommand(CLI::App& app, Command& chosen);
void AddEstimateCommand(CLI::App& app, Command& chosen);
void AddHeatmapCommand(CLI::App& app, Command& chosen);
void AddLoadtestCommand(CLI::App& app, Command& chosen);
void AddModelsCommand(CLI::App& app, Command& chosen);
void AddHealthCommand(CLI::App& app, Command& chosen);
void AddVerifyCommand(CLI::App& app, Command& chosen);

// Runs it. An exception, of which there should be none, ends with kExitFailed and a line that says what it
// was.
int RunGuarded(const Command& command, const Streams& streams);

// Prints "headlight: CODE: message" and returns `exit_code`.
int Fail(const Streams& streams, ExitCode exit_code, const absl::Status& status);

// Prints "headlight: note: ..." of each, where it is in nobody's way.
void PrintNotes(const Streams& streams, const std::vector<std::string>& notes);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_COMMANDS_H_
