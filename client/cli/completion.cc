// SPDX-License-Identifier: Apache-2.0
#include "client/cli/completion.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace headlight::client {
namespace {

// "--dtype" or "-h", with dashes.
std::vector<std::string> SpellingsOf(const CLI::Option& option) {
  std::vector<std::string> spellings;
  for (const std::string& name : option.get_lnames()) spellings.push_back("--" + name);
  for (const std::string& name : option.get_snames()) spellings.push_back("-" + name);
  return spellings;
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// The values that a type name lists; none if it does not.
std::vector<std::string> ValuesOf(const CLI::Option& option) {
  const std::string type_name = option.get_type_name();
  if (type_name.find('|') == std::string::npos) return {};
  return absl::StrSplit(type_name, '|');
}

// What may follow the command: its options, its own commands, and values of its positional arguments.
std::vector<std::string> WordsOf(const CLI::App& app) {
  std::vector<std::string> words;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    words.push_back(command->get_name());
  for (const CLI::Option* option : app.get_options()) {
    for (std::string& spelling : SpellingsOf(*option)) words.push_back(std::move(spelling));
    if (option->get_positional()) {
      for (std::string& value : ValuesOf(*option)) words.push_back(std::move(value));
    }
  }
  return words;
}

// The lines of a `case` on "command option" that say what the option's value may be.
std::string ValueCases(const CLI::App& app, const std::string& program, const std::string& command) {
  std::string cases;
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string> spellings = SpellingsOf(*option);
    if (spellings.empty() || !TakesValue(*option)) continue;
    std::vector<std::string> patterns;
    for (const std::string& spelling : spellings)
      patterns.push_back(absl::StrCat("'", command, " ", spelling, "'"));
    const std::vector<std::string> values = ValuesOf(*option);
    const bool is_file = option->get_type_name().rfind("FILE", 0) == 0;
    absl::StrAppend(&cases, "    ", absl::StrJoin(patterns, "|"), ") ",
                    is_file ? absl::StrCat("_", program, "_files \"$current\"; return")
                            : absl::StrCat("words='", absl::StrJoin(values, " "), "'"),
                    " ;;\n");
  }
  return cases;
}

constexpr char kBashTemplate[] =
    R"(# Completion of `$program` for bash, written by `$program completion bash`.
# shellcheck shell=bash

_$program_files() {
  COMPREPLY=()
  local file
  while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$1")
  compopt -o filenames 2>/dev/null || true  # there is nothing to set when a script calls this
}

_$program() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' words i
  # "--dtype=bf16" arrives as three words.
  if [[ $current == '=' ]]; then
    current=''
  elif [[ $before == '=' && COMP_CWORD -ge 2 ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      $commands) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  case "$command $before" in
$values    *)
      case $command in
$words      esac ;;
  esac
  COMPREPLY=()
  while IFS= read -r i; do COMPREPLY+=("$i"); done < <(compgen -W "$words" -- "$current")
}

complete -F _$program $program
)";

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  std::vector<std::string> commands;
  std::string values = ValueCases(app, app.get_name(), "");
  std::string words = absl::StrCat("        '') words='", absl::StrJoin(WordsOf(app), " "), "' ;;\n");
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(command->get_name());
    absl::StrAppend(&values, ValueCases(*command, app.get_name(), command->get_name()));
    absl::StrAppend(&words, "        ", command->get_name(), ") words='",
                    absl::StrJoin(WordsOf(*command), " "), "' ;;\n");
  }
  return absl::StrReplaceAll(kBashTemplate, {{"$program", app.get_name()},
                                             {"$commands", absl::StrJoin(commands, "|")},
                                             {"$values", values},
                                             {"$words      esac", absl::StrCat(words, "      esac")}});
}

}  // namespace headlight::client
