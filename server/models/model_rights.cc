// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_rights.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/text.h"

namespace headlight {
namespace {

bool StandsFor(const std::string& pattern, const std::string& name) {
  const absl::string_view text = pattern;
  if (!absl::EndsWith(text, "*")) return pattern == name;
  return absl::StartsWith(name, text.substr(0, text.size() - 1));
}

}  // namespace

const ModelRights& ModelRights::All() {
  static const ModelRights& all = *new ModelRights({"*"});
  return all;
}

const ModelRights& ModelRights::None() {
  static const ModelRights& none = *new ModelRights({});
  return none;
}

absl::Status ModelRights::CheckPattern(const std::string& pattern) {
  const size_t star = pattern.find('*');
  if (!pattern.empty() && (star == std::string::npos || star == pattern.size() - 1)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("got ", Quoted(pattern), ", wanted a model's name, or the beginning of names and one *"));
}

bool ModelRights::MaySee(const std::string& name) const {
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const std::string& pattern) { return StandsFor(pattern, name); });
}

bool ModelRights::MaySeeAll() const {
  return std::find(patterns_.begin(), patterns_.end(), "*") != patterns_.end();
}

}  // namespace headlight
