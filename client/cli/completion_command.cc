// SPDX-License-Identifier: Apache-2.0
//
// `headlight completion`: the script that completes this command line.
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/completion.h"

namespace headlight::client {

void AddCompletionCommand(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("completion", "Print a script that completes this command line");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "Which shell it is for")
      ->required()
      ->type_name("bash|zsh")
      ->check(CLI::IsMember({"bash", "zsh"}, CLI::ignore_case).description(""));
  command->footer(
      "Packages install it; without one: source <(headlight completion bash).\n"
      "The one for zsh is the same and begins with bashcompinit; zsh wants compinit before it.\n"
      "Example: headlight completion bash > ~/.local/share/bash-completion/completions/headlight");
  command->callback([&app, shell, &chosen] {
    chosen = [&app, shell](const Streams& streams) -> int {
      if (*shell == "zsh") streams.out << "autoload -U +X bashcompinit && bashcompinit\n";
      streams.out << BashCompletion(app) << std::flush;
      return kExitOk;
    };
  });
}

}  // namespace headlight::client
