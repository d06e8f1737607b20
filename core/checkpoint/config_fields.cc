// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/config_fields.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/bounded_json.h"

namespace headlight {
namespace {

using nlohmann::json;

// Configs of classifiers name their classes, twice: there are some with a hundred thousand.
constexpr JsonLimits kConfigLimits = {.max_bytes = int64_t{16} << 20, .max_values = 400000};

// A value for an error message: short, whatever it is.
std::string Shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  constexpr size_t kMaxShown = 80;
  if (text.size() > kMaxShown) text = absl::StrCat(text.substr(0, kMaxShown), "...");
  return text;
}

}  // namespace

struct ConfigFields::Value {
  json json_value;
};

// Of a file.
struct ConfigFields::Shared {
  struct Seen {
    std::shared_ptr<const Value> value;
    std::shared_ptr<std::vector<std::string>> known;
  };
  std::vector<std::string> problems;
  bool all_unimplemented = true;
  std::map<std::string, Seen> objects;  // by path
  std::vector<std::string> assumed;
};

ConfigFields::ConfigFields(std::shared_ptr<const Value> value, std::shared_ptr<Shared> shared,
                           std::string path)
    : value_(std::move(value)), shared_(std::move(shared)), path_(std::move(path)) {
  Shared::Seen& seen = shared_->objects[path_];
  if (seen.known == nullptr) seen = {value_, std::make_shared<std::vector<std::string>>()};
  known_ = seen.known;
}

absl::StatusOr<ConfigFields> ConfigFields::Read(const std::string& path) {
  auto value = std::make_shared<Value>();
  HEADLIGHT_ASSIGN_OR_RETURN(value->json_value, ReadJsonFile(path, kConfigLimits));
  if (!value->json_value.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a JSON object"));
  }
  return ConfigFields(std::move(value), std::make_shared<Shared>(), "");
}

void ConfigFields::Fail(Problem kind, const std::string& key, const std::string& what) {
  std::string problem = absl::StrCat(path_, key, ": ", what);
  // Whoever reads a key twice finds its problem twice.
  std::vector<std::string>& problems = shared_->problems;
  if (std::find(problems.begin(), problems.end(), problem) == problems.end()) {
    problems.push_back(std::move(problem));
  }
  if (kind == Problem::kInvalid) shared_->all_unimplemented = false;
}

const void* ConfigFields::Get(const std::string& key) {
  if (std::find(known_->begin(), known_->end(), key) == known_->end()) known_->push_back(key);
  const auto found = value_->json_value.find(key);
  return found == value_->json_value.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::Has(const std::string& key) { return Get(key) != nullptr; }

bool ConfigFields::IsNull(const std::string& key) {
  return Get(key) == nullptr && value_->json_value.contains(key);
}

bool ConfigFields::Is(const std::string& key, const char* value) {
  const auto* got = static_cast<const json*>(Get(key));
  return got != nullptr && *got == json::parse(value);
}

bool ConfigFields::IsObject(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  return value != nullptr && value->is_object();
}

std::vector<std::string> ConfigFields::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : value_->json_value.items()) keys.push_back(item.key());
  return keys;
}

void ConfigFields::Assume(const std::string& key, const std::string& value) {
  std::string line = absl::StrCat(path_, key, " ", value);
  std::vector<std::string>& assumed = shared_->assumed;
  if (std::find(assumed.begin(), assumed.end(), line) == assumed.end()) assumed.push_back(std::move(line));
}

std::string ConfigFields::EitherOf(const std::string& key, const std::string& other) {
  const auto* one = static_cast<const json*>(Get(key));
  const auto* two = static_cast<const json*>(Get(other));
  if (two == nullptr) return key;
  if (one == nullptr) return other;
  if (*one != *two) {
    Fail(Problem::kInvalid, key,
         absl::StrCat("got ", Shown(*one), ", and ", other, " ", Shown(*two),
                      ", which is another name of the same; wanted one value"));
  }
  return key;
}

void ConfigFields::Only(const std::string& key, std::initializer_list<const char*> served) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value == nullptr) return;
  for (const char* text : served) {
    if (*value == json::parse(text)) return;
  }
  Fail(Problem::kUnimplemented, key,
       absl::StrCat("got ", Shown(*value), ", served is ", absl::StrJoin(served, " or ")));
}

void ConfigFields::WithoutEffect(std::span<const char* const> keys) {
  for (const char* key : keys) Get(key);
}

std::optional<int64_t> ConfigFields::OptionalInt(const std::string& key, int64_t min, int64_t max) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= uint64_t{INT64_MAX}
                                                : value->is_number_integer();
  if (fits && value->get<int64_t>() >= min && value->get<int64_t>() <= max) return value->get<int64_t>();
  Fail(Problem::kInvalid, key,
       absl::StrCat("got ", Shown(*value), ", wanted an integer in ", min, "..", max));
  return std::nullopt;
}

int64_t ConfigFields::Int(const std::string& key, int64_t min, int64_t max, std::optional<int64_t> fallback) {
  const std::optional<int64_t> got = OptionalInt(key, min, max);
  if (got) return *got;
  if (fallback) Assume(key, absl::StrCat(*fallback));
  if (!fallback && !Has(key)) {
    Fail(Problem::kInvalid, key, absl::StrCat("missing, wanted an integer in ", min, "..", max));
  }
  return fallback.value_or(min);
}

std::optional<double> ConfigFields::OptionalNumber(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value == nullptr) return std::nullopt;
  if (value->is_number() && std::isfinite(value->get<double>())) return value->get<double>();
  Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted a number"));
  return std::nullopt;
}

double ConfigFields::Number(const std::string& key, std::optional<double> fallback) {
  const std::optional<double> got = OptionalNumber(key);
  if (got) return *got;
  if (fallback) Assume(key, absl::StrCat(*fallback));
  if (!fallback && !Has(key)) Fail(Problem::kInvalid, key, "missing, wanted a number");
  return fallback.value_or(0.0);
}

bool ConfigFields::Bool(const std::string& key, bool fallback) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value == nullptr) {
    Assume(key, fallback ? "true" : "false");
    return fallback;
  }
  if (value->is_boolean()) return value->get<bool>();
  Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted true or false"));
  return fallback;
}

std::string ConfigFields::String(const std::string& key, std::optional<std::string> fallback) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  if (value != nullptr) {
    Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted a string"));
  } else if (fallback) {
    Assume(key, Quoted(*fallback));
  } else {
    Fail(Problem::kInvalid, key, "missing, wanted a string");
  }
  return fallback.value_or("");
}

std::string ConfigFields::Text(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : Shown(*value);
}

std::vector<std::string> ConfigFields::Strings(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  if (value->is_array()) {
    for (const json& item : *value) {
      if (item.is_string()) strings.push_back(item.get<std::string>());
    }
    if (strings.size() == value->size()) return strings;
  }
  Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted an array of strings"));
  return {};
}

std::vector<double> ConfigFields::Numbers(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  std::vector<double> numbers;
  if (value == nullptr) return numbers;
  if (value->is_array()) {
    for (const json& item : *value) {
      if (item.is_number() && std::isfinite(item.get<double>())) numbers.push_back(item.get<double>());
    }
    if (numbers.size() == value->size()) return numbers;
  }
  Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted an array of numbers"));
  return {};
}

std::vector<std::string> ConfigFields::StringOrStrings(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  if (value != nullptr && value->is_string()) return {value->get<std::string>()};
  return Strings(key);
}

ConfigFields ConfigFields::Object(const std::string& key) {
  const auto* value = static_cast<const json*>(Get(key));
  auto object = std::make_shared<Value>(Value{json::object()});
  if (value != nullptr && value->is_object()) {
    object->json_value = *value;
  } else if (value != nullptr) {
    Fail(Problem::kInvalid, key, absl::StrCat("got ", Shown(*value), ", wanted an object"));
  }
  return ConfigFields(std::move(object), shared_, absl::StrCat(path_, key, "."));
}

bool ConfigFields::empty() const { return value_->json_value.empty(); }

void ConfigFields::FailUnknownKeys() {
  for (const auto& item : value_->json_value.items()) {
    if (std::find(known_->begin(), known_->end(), item.key()) != known_->end()) continue;
    Fail(Problem::kInvalid, Shown(json(item.key())),
         absl::StrCat("unknown key, wanted one of ", absl::StrJoin(*known_, ", ")));
  }
}

std::vector<std::string> ConfigFields::UnknownKeys() const {
  std::vector<std::string> unknown;
  for (const auto& [path, seen] : shared_->objects) {
    const std::set<std::string> known(seen.known->begin(), seen.known->end());
    for (const auto& item : seen.value->json_value.items()) {
      if (!known.contains(item.key())) unknown.push_back(absl::StrCat(path, item.key()));
    }
  }
  return unknown;
}

std::vector<std::string> ConfigFields::Assumed() const { return shared_->assumed; }

absl::Status ConfigFields::status() const {
  if (shared_->problems.empty()) return absl::OkStatus();
  const std::string message = absl::StrJoin(shared_->problems, "; ");
  return shared_->all_unimplemented ? absl::UnimplementedError(message) : absl::InvalidArgumentError(message);
}

}  // namespace headlight
