// SPDX-License-Identifier: Apache-2.0
#include "client/cli/cli.h"

#include <CLI/CLI.hpp>
#include <exception>
#include <string>

#include "client/cli/commands.h"

namespace headlight::client {
namespace {

constexpr char kProgramFooter[] =
    "Environment: HEADLIGHT_SERVER stands in for --server.\n"
    "Exit codes: 0 done; 1 an RPC failed; 2 wrong usage or a bad input file; 3 part of a load test failed, "
    "or no "
    "fleet meets a goal.\n"
    "`headlight COMMAND --help` explains a command.";

}  // namespace

int RunGuarded(const Command& command, const Streams& streams) {
  try {
    return command(streams);
  } catch (const std::exception& error) {
    return Fail(streams, kExitFailed, absl::InternalError(error.what()));
  }
}

int RunCli(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app("Speaks to a Headlight server: multi-head attention over gRPC.", "headlight");
  app.set_version_flag("--version", "headlight " HEADLIGHT_VERSION);
  app.require_subcommand(0, 1);  // none is refused below, after the parser has named a word it does not know
  app.footer(kProgramFooter);
  Command chosen;
  AddAttendCommand(app, chosen);
  AddEstimateCommand(app, chosen);
  AddVerifyCommand(app, chosen);
  AddHeatmapCommand(app, chosen);
  AddLoadtestCommand(app, chosen);
  AddCapacityCommand(app, chosen);
  AddModelsCommand(app, chosen);
  AddHealthCommand(app, chosen);
  AddCompletionCommand(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? kExitOk : kExitUsage;
  }
  if (!chosen) {
    err << "A command is required.\n\n" << app.help();
    return kExitUsage;
  }
  return RunGuarded(chosen, {.out = out, .err = err});
}

}  // namespace headlight::client
