// SPDX-License-Identifier: Apache-2.0
#include "server/program/reload.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/program/logging.h"
#include "server/security/token_file.h"
#include "server/security/token_table.h"

namespace headlight {
namespace {

constexpr char kLogLevel[] = "log-level";

absl::StatusOr<CommandLine> ParseAgain(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv;
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseCommandLine(static_cast<int>(argv.size()), argv.data());
}

}  // namespace

absl::StatusOr<std::string> ReloadTokens(const std::string& path, Gate& gate) {
  HEADLIGHT_ASSIGN_OR_RETURN(std::vector<TokenTerms> terms, ReadTokenFile(path));
  const std::shared_ptr<const TokenTable> before = gate.tokens();
  const auto after = std::make_shared<const TokenTable>(std::move(terms), before.get());
  gate.SetTokens(after);
  const size_t num_tokens = after->terms().size();
  if (before == nullptr) return absl::StrCat(num_tokens, " tokens");
  return absl::StrCat(num_tokens, " tokens: ", DescribeChanges(*before, *after));
}

Reload::Reload(std::vector<std::string> arguments, const ServerOptions& started_with, Gate& gate)
    : arguments_(std::move(arguments)), started_with_(started_with), gate_(gate) {}

void Reload::Run() {
  RunTokens();
  RunOptions();
}

void Reload::RunTokens() {
  if (started_with_.tokens.empty()) return;
  const absl::StatusOr<std::string> changes = ReloadTokens(started_with_.tokens, gate_);
  if (changes.ok()) {
    spdlog::info("reload: {}", *changes);
  } else {
    spdlog::error("reload: the tokens stay as they were: {}", std::string(changes.status().message()));
  }
}

void Reload::RunOptions() {
  const absl::StatusOr<CommandLine> line = ParseAgain(arguments_);
  if (!line.ok()) {
    spdlog::error("reload: the options stay as they were: {}", std::string(line.status().message()));
    return;
  }
  const auto before = EffectiveValues(started_with_);
  const auto after = EffectiveValues(line->options);
  for (size_t i = 0; i < after.size(); ++i) {
    const auto& [name, value] = after[i];
    if (name == kLogLevel || value == before[i].second) continue;
    spdlog::warn("reload: option {} = {} now; it takes a restart", name, value);
  }
  if (IsLogLevel(line->options.log_level)) return;
  SetLogLevel(LogLevel::kInfo);  // to tell of it, whatever was in force and will be
  for (const auto& [name, value] : after) {
    if (name == kLogLevel) spdlog::info("reload: option {} = {}", name, value);
  }
  SetLogLevel(line->options.log_level);
}

}  // namespace headlight
