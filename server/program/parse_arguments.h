// SPDX-License-Identifier: Apache-2.0
//
// How the commands beside serving take their arguments.
#ifndef HEADLIGHT_SERVER_PROGRAM_PARSE_ARGUMENTS_H_
#define HEADLIGHT_SERVER_PROGRAM_PARSE_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <ostream>

namespace headlight {

// Fills what `app` declares. Nothing: the command may go on. Else the exit code to end with: 0 if help was asked for,
// which is in `out`, and 2 for wrong usage, which `err` tells of.
std::optional<int> ParseArguments(CLI::App& app, int argc, const char* const* argv, std::ostream& out,
                                  std::ostream& err);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_PARSE_ARGUMENTS_H_
