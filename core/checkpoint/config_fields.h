// SPDX-License-Identifier: Apache-2.0
//
// The keys of a JSON object, read with their types and ranges. Whoever reads takes every key that it knows
// and asks once, at the end, what was wrong: one error tells all of it. What nobody asked for is known too,
// and so is what was taken for granted.
#ifndef HEADLIGHT_CORE_CHECKPOINT_CONFIG_FIELDS_H_
#define HEADLIGHT_CORE_CHECKPOINT_CONFIG_FIELDS_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

// Cheap to copy; copies and sub-objects share what they note. Not thread-safe. A key whose value is null
// counts as absent. After a problem the getters return their fallback, or the smallest value allowed.
class ConfigFields {
 public:
  // The object in a file. NOT_FOUND: there is no such file. INVALID_ARGUMENT: it is not JSON, not an object,
  // or more than a config has. Messages begin with the path.
  static absl::StatusOr<ConfigFields> Read(const std::string& path);

  bool Has(const std::string& key);
  bool IsNull(const std::string& key);  // there, with the value null
  // Whether a key is there with this value, which is JSON.
  bool Is(const std::string& key, const char* value);
  bool empty() const;  // no keys at all

  // The value of a key; without a fallback a missing key is a problem.
  int64_t Int(const std::string& key, int64_t min, int64_t max, std::optional<int64_t> fallback = {});
  double Number(const std::string& key, std::optional<double> fallback = {});
  bool Bool(const std::string& key, bool fallback);
  std::string String(const std::string& key, std::optional<std::string> fallback = {});

  // The value of a key in words, whatever it is: a string as it is, anything else as JSON; empty if absent.
  std::string Text(const std::string& key);

  std::optional<int64_t> OptionalInt(const std::string& key, int64_t min, int64_t max);
  std::optional<double> OptionalNumber(const std::string& key);

  // A nested object; without keys if there is none.
  ConfigFields Object(const std::string& key);
  // The strings of an array; none if there is none.
  std::vector<std::string> Strings(const std::string& key);
  std::vector<double> Numbers(const std::string& key);  // likewise
  // The same where one string may stand for an array of it.
  std::vector<std::string> StringOrStrings(const std::string& key);
  bool IsObject(const std::string& key);
  std::vector<std::string> keys() const;

  // The one of two names for the same thing that is there; `key` if both are, with one value, or neither. A
  // problem where they contradict each other.
  std::string EitherOf(const std::string& key, const std::string& other);

  // A key that is served with one of these values alone, or absent; each as JSON.
  void Only(const std::string& key, std::initializer_list<const char*> served);

  // Keys that change nothing of what is computed, with whatever value.
  void WithoutEffect(std::span<const char* const> keys);
  void WithoutEffect(std::initializer_list<const char*> keys) {
    WithoutEffect(std::span(keys.begin(), keys.size()));
  }

  // Notes a problem of a key: "key: what". kUnimplemented: the value is understood but not served.
  enum class Problem { kInvalid, kUnimplemented };
  void Fail(Problem kind, const std::string& key, const std::string& what);

  // Notes every key of this object that no getter has asked for, with the ones that were asked for.
  void FailUnknownKeys();

  // Keys of all objects so far, by their paths, that no getter has asked for.
  std::vector<std::string> UnknownKeys() const;

  // What getters gave for keys that are absent, in the order of asking: "hidden_act \"gelu\"".
  std::vector<std::string> Assumed() const;

  // OK, or all problems in one message: UNIMPLEMENTED if each of them is, else INVALID_ARGUMENT.
  absl::Status status() const;

 private:
  struct Value;
  struct Shared;
  ConfigFields(std::shared_ptr<const Value> value, std::shared_ptr<Shared> shared, std::string path);
  // The JSON value, null if absent; remembers that it was asked for.
  const void* Get(const std::string& key);
  void Assume(const std::string& key, const std::string& value);

  std::shared_ptr<const Value> value_;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<std::vector<std::string>> known_;  // keys asked for
  std::string path_;                                 // of this object, such as "rope."
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_CONFIG_FIELDS_H_
