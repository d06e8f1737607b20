// SPDX-License-Identifier: Apache-2.0
//
// Runs a command line as a test wants it: words in, exit code and both streams out.
#ifndef HEADLIGHT_TESTS_CLIENT_CLI_RUN_CLI_H_
#define HEADLIGHT_TESTS_CLIENT_CLI_RUN_CLI_H_

#include <sstream>
#include <string>
#include <vector>

#include "client/cli/cli.h"

namespace headlight::testing {

struct CliResult {
  int exit_code;
  std::string out;
  std::string err;
};

// `words` follow the program's name.
inline CliResult RunHeadlight(const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"headlight"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  std::ostringstream out, err;
  const int exit_code = client::RunCli(static_cast<int>(argv.size()), argv.data(), out, err);
  return {exit_code, out.str(), err.str()};
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_CLI_RUN_CLI_H_
