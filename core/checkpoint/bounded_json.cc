// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/bounded_json.h"

#include <unistd.h>

#include <cerrno>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/regular_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

using nlohmann::json;

// Builds the document; what nlohmann's own parser does, but with limits, and without losing the first of
// two members of one name.
class DocumentBuilder final : public JsonHandler {
 public:
  DocumentBuilder(const JsonLimits& limits, const std::string& name) : limits_(limits), name_(name) {}

  json TakeDocument() { return std::move(document_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool start_object(size_t /*elements*/) override { return Open(json::value_t::object); }
  bool start_array(size_t /*elements*/) override { return Open(json::value_t::array); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    const auto [member, is_new] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    path_.back().clear();
    if (!is_new) return Fail(absl::StrCat("key ", Quoted(name), " occurs twice"));
    member_ = &member->second;
    path_.back() = name;
    return true;
  }

 private:
  std::string Here() const override {
    std::string here;
    for (const std::string& step : path_) {
      if (!step.empty()) absl::StrAppend(&here, here.empty() ? "" : ".", step);
    }
    return here.empty() ? name_ : absl::StrCat(name_, ": ", Quoted(here));
  }

  // Puts a value where the document is open, and says where it is: null if there are too many.
  json* Place(json value) {
    if (++num_values_ > limits_.max_values) {
      Fail(absl::StrCat("more than ", limits_.max_values, " values"));
      return nullptr;
    }
    json* place = &document_;
    if (!open_.empty() && open_.back()->is_array()) {
      place = &open_.back()->get_ref<json::array_t&>().emplace_back();
    } else if (!open_.empty()) {
      place = member_;
    }
    *place = std::move(value);
    return place;
  }
  bool Add(json value) { return Place(std::move(value)) != nullptr; }

  bool Open(json::value_t kind) {
    if (std::ssize(open_) >= limits_.max_depth) {
      return Fail(absl::StrCat("nested deeper than ", limits_.max_depth, " levels"));
    }
    json* const place = Place(json(kind));
    if (place == nullptr) return false;
    open_.push_back(place);
    path_.emplace_back();
    return true;
  }
  bool Close() {
    open_.pop_back();
    path_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  const std::string& name_;
  int64_t num_values_ = 0;
  json document_;
  std::vector<json*> open_;        // objects and arrays that are not at their end, outermost first
  std::vector<std::string> path_;  // the current key of each of them, empty in arrays
  json* member_ = nullptr;         // of the object on top, whose value comes next
};

// The whole file, unless it is larger than max_bytes.
absl::StatusOr<std::string> ReadBounded(const std::string& path, int64_t max_bytes) {
  HEADLIGHT_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  if (file.size_bytes() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": got ", file.size_bytes(), " bytes, wanted at most ", max_bytes));
  }
  std::string text(static_cast<size_t>(file.size_bytes()), '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t n = read(file.descriptor(), text.data() + filled, text.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read"));
    if (n == 0) break;  // it became shorter meanwhile
    filled += static_cast<size_t>(n);
  }
  text.resize(filled);
  return text;
}

}  // namespace

bool JsonHandler::Fail(const std::string& what) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(Here(), ": ", what));
  return false;
}

bool JsonHandler::Unexpected(absl::string_view got) {
  const std::string wanted = Wanted();
  return Fail(absl::StrCat("got ", got.substr(0, 100),
                           wanted.empty() ? ", which has no place here" : ", wanted ", wanted));
}

bool JsonHandler::parse_error(size_t position, const std::string& last_token,
                              const nlohmann::detail::exception& error) {
  // The library's sentence repeats the token at its full length; what stands before that is ours to keep.
  absl::string_view reason = error.what();
  reason = reason.substr(0, reason.find("; last read:"));
  if (const size_t end_of_tag = reason.find("] "); end_of_tag != absl::string_view::npos) {
    reason.remove_prefix(end_of_tag + 2);
  }
  return Fail(absl::StrCat("not JSON at byte ", position, ", after ", Quoted(last_token), ": ",
                           absl::CHexEscape(reason.substr(0, 200))));
}

absl::Status ScanJson(absl::string_view text, JsonHandler& handler, const std::string& name) {
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": not JSON: got nothing"));
  // The library takes a NUL for the end of the text and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not JSON: a NUL at byte ", nul));
  }
  try {
    json::sax_parse(text.begin(), text.end(), &handler);
    return handler.status();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, ": no memory to read ", text.size(), " bytes of JSON"));
  }
}

absl::StatusOr<json> ParseJson(absl::string_view text, const JsonLimits& limits, const std::string& name) {
  if (std::ssize(text) > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got ", text.size(), " bytes of JSON, wanted at most ", limits.max_bytes));
  }
  DocumentBuilder builder(limits, name);
  HEADLIGHT_RETURN_IF_ERROR(ScanJson(text, builder, name));
  return builder.TakeDocument();
}

absl::StatusOr<json> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  HEADLIGHT_ASSIGN_OR_RETURN(const std::string text, ReadBounded(path, limits.max_bytes));
  return ParseJson(text, limits, path);
}

}  // namespace headlight
