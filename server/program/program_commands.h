// SPDX-License-Identifier: Apache-2.0
//
// What headlight-server does besides serving: `headlight-server init-model ...`, `... check-model DIR`,
// `... hash-token` and `... probe`. Each lives in a file of its own.
#ifndef HEADLIGHT_SERVER_PROGRAM_PROGRAM_COMMANDS_H_
#define HEADLIGHT_SERVER_PROGRAM_PROGRAM_COMMANDS_H_

#include <istream>
#include <ostream>

namespace headlight {

// argv[0] is the command's name. All return the exit code: 0, 1 if it could not be done or the model is
// wrong, 2 for wrong usage; errors go to `err`.

// Writes a native model folder with random weights.
int RunInitModel(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

// Checks a model folder as the server would load it, and says what is in it.
int RunCheckModel(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

// Reads a bearer token from `in` and writes its entry for the file of --tokens.
int RunHashToken(int argc, const char* const* argv, std::istream& in, std::ostream& out, std::ostream& err);

// Asks the admin port of a server on this machine how it is. 1: not ready, or not there.
int RunProbe(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_PROGRAM_COMMANDS_H_
