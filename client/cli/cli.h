// SPDX-License-Identifier: Apache-2.0
//
// The `headlight` command as a function, so that tests can call it.
#ifndef HEADLIGHT_CLIENT_CLI_CLI_H_
#define HEADLIGHT_CLIENT_CLI_CLI_H_

#include <ostream>

namespace headlight::client {

// Runs the command line and returns the exit code: 0 done; 1 an RPC failed or its results could not be
// written, with "headlight: CODE: message" on `err`; 2 the command line, or an input file that it names, is
// wrong.
int RunCli(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_CLI_H_
