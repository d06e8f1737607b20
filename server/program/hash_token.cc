// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/program/parse_arguments.h"
#include "server/program/program_commands.h"
#include "server/security/token_file.h"
#include "server/security/token_hash.h"

namespace headlight {
namespace {

struct HashTokenFlags {
  std::string name;
  std::string tenant;
  double weight = 1;
  std::vector<std::string> models;
  std::optional<double> compute_seconds_per_second;
  bool model_control = false;
};

void Declare(CLI::App& app, HashTokenFlags& flags) {
  app.add_option("--name", flags.name, "Of the token, for the log [token- and the hash's first 8 digits]");
  app.add_option("--tenant", flags.tenant, "For whom it calls [the name]");
  app.add_option("--weight", flags.weight, "The tenant's share of the compute time beside others [1]");
  app.add_option("--models", flags.models, "That it may see: names, or PREFIX*, with commas [all]")
      ->delimiter(',');
  app.add_option("--compute-seconds-per-second", flags.compute_seconds_per_second,
                 "Predicted compute time that it may ask for in a second [any]");
  app.add_flag("--model-control", flags.model_control, "It may load and unload models");
  app.footer(
      "Reads the token, 16 bytes or more, on standard input; prints the [[token]] for the file of --tokens.\n"
      "Example: openssl rand -hex 32 | tee token | headlight-server hash-token --name search >> tokens.toml");
}

// The one line of `in`. Longer ones than any token are not read to their end.
std::string ReadLine(std::istream& in) {
  std::string line(kMaxTokenBytes + 3, '\0');
  in.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<size_t>(in.gcount()));
  if (!line.empty() && line.back() == '\n') line.pop_back();
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

absl::StatusOr<std::string> TableFor(const std::string& token, const HashTokenFlags& flags) {
  HEADLIGHT_RETURN_IF_ERROR(CheckToken(token));
  TokenTerms terms;
  terms.sha256 = HashToken(token);
  terms.name = flags.name.empty() ? absl::StrCat("token-", ToHex(terms.sha256).substr(0, 8)) : flags.name;
  terms.tenant = flags.tenant.empty() ? terms.name : flags.tenant;
  terms.weight = flags.weight;
  if (!flags.models.empty()) terms.models = ModelRights(flags.models);
  terms.compute_seconds_per_second = flags.compute_seconds_per_second;
  terms.model_control = flags.model_control;
  const std::string table = WriteToken(terms);
  HEADLIGHT_RETURN_IF_ERROR(ParseTokens(table, "the table").status());  // names and numbers are the file's
  return table;
}

}  // namespace

int RunHashToken(int argc, const char* const* argv, std::istream& in, std::ostream& out, std::ostream& err) {
  CLI::App app("Makes the entry of a bearer token for the file of --tokens; keeps nothing of the token.",
               "headlight-server hash-token");
  HashTokenFlags flags;
  Declare(app, flags);
  if (const std::optional<int> ended = ParseArguments(app, argc, argv, out, err)) return *ended;
  const absl::StatusOr<std::string> table = TableFor(ReadLine(in), flags);
  if (!table.ok()) {
    err << "headlight-server hash-token: " << table.status().message() << "\n";
    return 2;
  }
  out << *table;
  return 0;
}

}  // namespace headlight
