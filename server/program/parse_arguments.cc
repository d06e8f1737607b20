// SPDX-License-Identifier: Apache-2.0
#include "server/program/parse_arguments.h"

namespace headlight {

std::optional<int> ParseArguments(CLI::App& app, int argc, const char* const* argv, std::ostream& out,
                                  std::ostream& err) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << app.help();
    return 0;
  } catch (const CLI::Error& error) {
    err << app.get_name() << ": " << error.what() << "\nTry --help.\n";
    return 2;
  }
  return std::nullopt;
}

}  // namespace headlight
