// SPDX-License-Identifier: Apache-2.0
#include "server/security/token_file.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/regular_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 20;
constexpr size_t kMaxNameBytes = 64;
constexpr double kMinShare = 0.001;  // of weights and rates
constexpr double kMaxShare = 1000;

// Text of the file as messages show it.
std::string QuotedView(std::string_view text) { return Quoted({text.data(), text.size()}); }

// Reads one [[token]]; every error names the line that it is on.
class TokenReader {
 public:
  TokenReader(const toml::table& table, const std::string& path) : table_(table), path_(path) {}

  absl::StatusOr<TokenTerms> Read() {
    HEADLIGHT_RETURN_IF_ERROR(CheckKeys());
    HEADLIGHT_RETURN_IF_ERROR(ReadName("name", terms_.name));
    if (terms_.name.empty()) return Wrong(table_, "name: got none, wanted a name for the log");
    terms_.tenant = terms_.name;
    HEADLIGHT_RETURN_IF_ERROR(ReadName("tenant", terms_.tenant));
    HEADLIGHT_RETURN_IF_ERROR(ReadHash());
    HEADLIGHT_RETURN_IF_ERROR(ReadModels());
    std::optional<double> weight;
    HEADLIGHT_RETURN_IF_ERROR(ReadShare("weight", weight));
    terms_.weight = weight.value_or(terms_.weight);
    HEADLIGHT_RETURN_IF_ERROR(ReadShare("compute_seconds_per_second", terms_.compute_seconds_per_second));
    if (const toml::node* node = table_.get("model_control")) {
      if (!node->is_boolean()) return Wrong(*node, "model_control: got no boolean, wanted true or false");
      terms_.model_control = node->as_boolean()->get();
    }
    return terms_;
  }

  absl::Status Wrong(const toml::node& where, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ":", where.source().begin.line, ": ", what));
  }

 private:
  absl::Status CheckKeys() const {
    for (const auto& [key, node] : table_) {
      static const std::set<std::string_view> kKeys = {
          "name", "sha256", "tenant", "weight", "models", "compute_seconds_per_second", "model_control"};
      if (kKeys.contains(key.str())) continue;
      return Wrong(node,
                   absl::StrCat("got the key ", QuotedView(key.str()), ", wanted ",
                                absl::StrJoin(kKeys, ", ", [](std::string* out, std::string_view known) {
                                  out->append(known);
                                })));
    }
    return absl::OkStatus();
  }

  absl::Status ReadName(const char* key, std::string& name) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return absl::OkStatus();
    if (!node->is_string()) return Wrong(*node, absl::StrCat(key, ": got no string, wanted a name"));
    name = node->as_string()->get();
    const absl::Status status = CheckTokenName(name);
    return status.ok() ? status : Wrong(*node, absl::StrCat(key, ": ", std::string(status.message())));
  }

  // Never shows the value: somebody may have put the token itself there.
  absl::Status ReadHash() {
    const toml::node* node = table_.get("sha256");
    if (node == nullptr) return Wrong(table_, "sha256: got none, wanted 64 hexadecimal digits");
    const std::string digits = node->is_string() ? node->as_string()->get() : std::string();
    const std::optional<TokenHash> hash = FromHex(digits);
    if (!hash) {
      return Wrong(*node, absl::StrCat("sha256: got ", digits.size(),
                                       " characters that are no such hash, wanted 64 hexadecimal digits"));
    }
    terms_.sha256 = *hash;
    return absl::OkStatus();
  }

  absl::Status ReadModels() {
    const toml::node* node = table_.get("models");
    if (node == nullptr) return absl::OkStatus();
    const toml::array* list = node->as_array();
    if (list == nullptr || list->empty()) {
      return Wrong(*node,
                   "models: got no list of names, wanted one or more; without the key it is all models");
    }
    std::vector<std::string> patterns;
    for (const toml::node& entry : *list) {
      if (!entry.is_string()) return Wrong(entry, "models: got something else in the list, wanted names");
      patterns.push_back(entry.as_string()->get());
      const absl::Status status = ModelRights::CheckPattern(patterns.back());
      if (!status.ok()) return Wrong(entry, absl::StrCat("models: ", std::string(status.message())));
    }
    terms_.models = ModelRights(std::move(patterns));
    return absl::OkStatus();
  }

  absl::Status ReadShare(const char* key, std::optional<double>& share) const {
    const toml::node* node = table_.get(key);
    if (node == nullptr) return absl::OkStatus();
    share = node->value<double>();
    const bool in_range = share && *share >= kMinShare && *share <= kMaxShare;  // which NaN is not
    if (in_range && node->is_number()) return absl::OkStatus();
    return Wrong(*node, absl::StrCat(key, ": got ", share ? absl::StrCat(*share) : std::string("no number"),
                                     ", wanted ", kMinShare, " to ", kMaxShare));
  }

  const toml::table& table_;
  const std::string& path_;
  TokenTerms terms_;
};

// Holds each token against those before it.
class Duplicates {
 public:
  absl::Status Add(const TokenReader& reader, const toml::table& table, const TokenTerms& terms) {
    if (!names_.insert(terms.name).second) {
      return reader.Wrong(table, absl::StrCat("name: got ", Quoted(terms.name), " twice, wanted it once"));
    }
    const auto [same, is_new] = hashes_.emplace(terms.sha256, terms.name);
    if (!is_new) {
      return reader.Wrong(table, absl::StrCat("sha256: got the token ", Quoted(same->second),
                                              " again, wanted each token once"));
    }
    const auto weight = weights_.emplace(terms.tenant, terms.weight).first;
    if (weight->second != terms.weight) {
      return reader.Wrong(table,
                          absl::StrCat("weight: got ", terms.weight, ", wanted ", weight->second,
                                       " as in the other tokens of the tenant ", Quoted(terms.tenant)));
    }
    return absl::OkStatus();
  }

 private:
  std::set<std::string> names_;
  std::map<TokenHash, std::string> hashes_;
  std::map<std::string, double> weights_;  // by tenant
};

absl::Status CheckRoot(const toml::table& root, const std::string& path) {
  const auto wrong = [&](const toml::node& node, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":", node.source().begin.line, ": ", what));
  };
  for (const auto& [key, node] : root) {
    if (key.str() != "token") {
      return wrong(node, absl::StrCat("got ", QuotedView(key.str()), ", wanted nothing but [[token]]"));
    }
    const toml::array* tokens = node.as_array();
    if (tokens == nullptr || !tokens->is_homogeneous<toml::table>()) {
      return wrong(node, "token: got something else, wanted [[token]] in double brackets");
    }
    if (tokens->size() > kMaxTokens) {
      return wrong(node, absl::StrCat("got ", tokens->size(), " tokens, wanted at most ", kMaxTokens));
    }
  }
  if (!root.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": got no [[token]], wanted at least one"));
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  HEADLIGHT_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  std::string text(static_cast<size_t>(kMaxFileBytes) + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file.descriptor(), &text[size], text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be read"));
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > static_cast<size_t>(kMaxFileBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": got more than ", kMaxFileBytes, " bytes, wanted at most so many"));
  }
  text.resize(size);
  return text;
}

}  // namespace

absl::Status CheckTokenName(const std::string& name) {
  const bool plain =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@") ==
      std::string::npos;
  if (!name.empty() && name.size() <= kMaxNameBytes && plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(name), ", wanted 1 to ", kMaxNameBytes,
                                                 " of letters, digits and . _ - : / @"));
}

absl::StatusOr<std::vector<TokenTerms>> ParseTokens(const std::string& text, const std::string& path) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return absl::InvalidArgumentError(absl::StrCat(
        path, ":", error.source().begin.line, ": got no TOML: ", Quoted(std::string(error.description()))));
  }
  const toml::table& root = parsed.table();
  HEADLIGHT_RETURN_IF_ERROR(CheckRoot(root, path));
  std::vector<TokenTerms> tokens;
  Duplicates duplicates;
  for (const toml::node& node : *root.get_as<toml::array>("token")) {
    const toml::table& table = *node.as_table();
    TokenReader reader(table, path);
    HEADLIGHT_ASSIGN_OR_RETURN(TokenTerms terms, reader.Read());
    HEADLIGHT_RETURN_IF_ERROR(duplicates.Add(reader, table, terms));
    tokens.push_back(std::move(terms));
  }
  return tokens;
}

absl::StatusOr<std::vector<TokenTerms>> ReadTokenFile(const std::string& path) {
  HEADLIGHT_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  return ParseTokens(text, path);
}

std::string WriteToken(const TokenTerms& terms) {
  std::ostringstream text;
  const auto write = [&](const char* key, const auto& value) { text << key << " = " << value << "\n"; };
  text << "[[token]]\n";
  write("name", toml::value<std::string>(terms.name));
  write("sha256", toml::value<std::string>(ToHex(terms.sha256)));
  if (terms.tenant != terms.name) write("tenant", toml::value<std::string>(terms.tenant));
  if (terms.weight != 1) write("weight", toml::value<double>(terms.weight));
  if (!terms.models.MaySeeAll()) {
    toml::array models;
    for (const std::string& pattern : terms.models.patterns()) models.push_back(pattern);
    write("models", models);
  }
  if (terms.compute_seconds_per_second) {
    write("compute_seconds_per_second", toml::value<double>(*terms.compute_seconds_per_second));
  }
  if (terms.model_control) write("model_control", toml::value<bool>(true));
  text << "\n";
  return text.str();
}

}  // namespace headlight
