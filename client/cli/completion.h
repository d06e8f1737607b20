// SPDX-License-Identifier: Apache-2.0
//
// Completion scripts for shells, made of the same definition of commands and options as --help.
#ifndef HEADLIGHT_CLIENT_CLI_COMPLETION_H_
#define HEADLIGHT_CLIENT_CLI_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <string>

namespace headlight::client {

// A bash script that completes `app`: its commands, their options, and the values of options whose type name
// lists them ("f32|bf16|f16") or begins with FILE. It needs nothing but bash 4; zsh reads it through
// bashcompinit.
std::string BashCompletion(const CLI::App& app);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_COMPLETION_H_
