// SPDX-License-Identifier: Apache-2.0
//
// JSON from files of unknown origin: bounded in size, depth and number of values, strict about the rest.
// For sources in core/checkpoint only: the headers that others include do not show the JSON library.
#ifndef HEADLIGHT_CORE_CHECKPOINT_BOUNDED_JSON_H_
#define HEADLIGHT_CORE_CHECKPOINT_BOUNDED_JSON_H_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace headlight {

struct JsonLimits {
  int64_t max_bytes = int64_t{1} << 20;
  int max_depth = 32;           // of objects and arrays inside each other
  int64_t max_values = 100000;  // of all kinds, containers included: each takes up to about 150 bytes
};

// The value that `text` holds. INVALID_ARGUMENT, beginning with `name` (a path, say): not JSON, or not UTF-8,
// with the place; a limit is exceeded; a key occurs twice in one object; a number exceeds a double; a NUL.
// RESOURCE_EXHAUSTED: memory is short. Comments are refused; a byte order mark before the value is not.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, const JsonLimits& limits,
                                         const std::string& name);

// The same for a regular file; a larger one is not read. NOT_FOUND or PERMISSION_DENIED: it cannot be opened.
// Other errors of the system keep their code. Messages begin with `path`.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, const JsonLimits& limits);

// What a JSON text tells a handler of its events, so that nothing of it is kept that is not wanted. Handlers
// override what they accept; the rest fails with "<Here()>: unexpected <what>". An event is passed on only
// while the depth is allowed. A handler ends the parsing by returning Fail().
class JsonHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  const absl::Status& status() const { return status_; }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Unexpected(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Unexpected(std::to_string(value)); }
  bool number_float(number_float_t /*value*/, const string_t& text) override { return Unexpected(text); }
  bool string(string_t& /*value*/) override { return Unexpected("a string"); }
  bool binary(binary_t& /*value*/) override { return Unexpected("binary data"); }  // JSON text has none
  bool start_object(size_t /*elements*/) override { return Unexpected("an object"); }
  bool key(string_t& /*name*/) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t /*elements*/) override { return Unexpected("an array"); }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) final;

 protected:
  // Where in the document the next event belongs, for messages; begins with the file's name.
  virtual std::string Here() const = 0;
  // What is wanted here, for messages; may be empty.
  virtual std::string Wanted() const { return ""; }

  // Both return false, which ends the parsing. The first failure counts.
  bool Fail(const std::string& what);  // INVALID_ARGUMENT: "<Here()>: <what>"
  bool Unexpected(absl::string_view got);

 private:
  absl::Status status_;
};

// Feeds `text` to `handler`. The handler's status, or RESOURCE_EXHAUSTED when memory is short. At most the
// longest string of the text is held at a time.
absl::Status ScanJson(absl::string_view text, JsonHandler& handler, const std::string& name);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_BOUNDED_JSON_H_
