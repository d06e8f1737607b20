// SPDX-License-Identifier: Apache-2.0
#include "client/files/npy_header.h"

#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/files/named.h"

namespace headlight::client {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kAlignmentBytes = 64;  // of the array within the file

// Walks over the text of the header's dictionary. Every Take* leaves the position behind what it took.
class DictionaryReader {
 public:
  explicit DictionaryReader(std::string text) : text_(std::move(text)) {}

  // Whether the next character, blanks aside, is `wanted`; takes it if so.
  bool Take(char wanted) {
    SkipBlanks();
    if (position_ == text_.size() || text_[position_] != wanted) return false;
    ++position_;
    return true;
  }

  bool TakeWord(std::string_view wanted) {
    SkipBlanks();
    if (text_.compare(position_, wanted.size(), wanted) != 0) return false;
    position_ += wanted.size();
    return true;
  }

  // A string in single or double quotes, without escapes: NumPy needs none here.
  bool TakeString(std::string* value) {
    const char quote = Take('\'') ? '\'' : '"';
    if (quote == '"' && !Take('"')) return false;
    const size_t end = text_.find(quote, position_);
    if (end == std::string::npos) return false;
    *value = text_.substr(position_, end - position_);
    position_ = end + 1;
    return true;
  }

  bool TakeBool(bool* value) {
    *value = TakeWord("True");
    return *value || TakeWord("False");
  }

  // A tuple of numbers: "()", "(3,)", "(3, 4)".
  bool TakeShape(Shape* shape) {
    if (!Take('(')) return false;
    while (!Take(')')) {
      int64_t dim = 0;
      if (shape->size() == kMaxNpyRank || !TakeNumber(&dim)) return false;
      shape->push_back(dim);
      if (!Take(',')) return shape->size() > 1 && Take(')');  // "(3)" is a number in Python, not a tuple
    }
    return true;
  }

  bool AtEnd() {
    SkipBlanks();
    return position_ == text_.size();
  }

 private:
  void SkipBlanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) ++position_;
  }

  bool TakeNumber(int64_t* value) {
    SkipBlanks();
    const size_t begin = position_;
    for (; position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9'; ++position_) {
      if (__builtin_mul_overflow(*value, 10, value) ||
          __builtin_add_overflow(*value, text_[position_] - '0', value)) {
        return false;
      }
    }
    return position_ > begin;
  }

  std::string text_;
  size_t position_ = 0;
};

absl::Status BadDictionary(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("the .npy header is damaged: ", what));
}

absl::StatusOr<NpyHeader> ParseDictionary(const std::string& text) {
  DictionaryReader reader(text);
  NpyHeader header;
  std::set<std::string> seen;
  if (!reader.Take('{')) return BadDictionary("it does not begin with '{'");
  bool closed = reader.Take('}');
  while (!closed) {
    std::string key;
    if (!reader.TakeString(&key) || !reader.Take(':')) return BadDictionary("a key is missing");
    if (!seen.insert(key).second) return BadDictionary(absl::StrCat(Named(key), " comes twice"));
    bool ok = false;
    if (key == "descr") {
      ok = reader.TakeString(&header.dtype);
    } else if (key == "fortran_order") {
      ok = reader.TakeBool(&header.fortran_order);
    } else if (key == "shape") {
      ok = reader.TakeShape(&header.shape);
    } else {
      return BadDictionary(absl::StrCat("unknown key ", Named(key)));
    }
    if (!ok) return BadDictionary(absl::StrCat("the value of '", key, "' cannot be read"));
    const bool more = reader.Take(',');
    closed = reader.Take('}');
    if (!more && !closed) return BadDictionary("',' or '}' is missing");
  }
  for (const char* key : {"descr", "fortran_order", "shape"}) {
    if (seen.count(key) == 0) return BadDictionary(absl::StrCat("'", key, "' is missing"));
  }
  if (!reader.AtEnd()) return BadDictionary("something follows its '}'");
  return header;
}

// A little-endian number of `size` bytes, or nothing if the input ends before.
bool ReadNumber(std::istream& in, size_t size, size_t* value) {
  *value = 0;
  for (size_t i = 0; i < size; ++i) {
    const int byte = in.get();
    if (byte == std::istream::traits_type::eof()) return false;
    *value |= static_cast<size_t>(byte) << (8 * i);
  }
  return true;
}

}  // namespace

absl::StatusOr<NpyHeader> ReadNpyHeader(std::istream& in) {
  std::string magic(kMagic.size(), '\0');
  in.read(magic.data(), static_cast<std::streamsize>(magic.size()));
  if (!in || magic != kMagic)
    return absl::InvalidArgumentError("not a .npy file: its first bytes are others");
  size_t major = 0, minor = 0, size_bytes = 0;
  if (!ReadNumber(in, 1, &major) || !ReadNumber(in, 1, &minor)) return BadDictionary("it is cut short");
  if (major < 1 || major > 3 || minor != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(".npy version: got ", major, ".", minor, ", wanted 1.0, 2.0 or 3.0"));
  }
  if (!ReadNumber(in, major == 1 ? 2 : 4, &size_bytes)) return BadDictionary("it is cut short");
  if (size_bytes > kMaxNpyHeaderBytes) {
    return BadDictionary(
        absl::StrCat("it says that it has ", size_bytes, " bytes, wanted at most ", kMaxNpyHeaderBytes));
  }
  std::string dictionary(size_bytes, '\0');
  in.read(dictionary.data(), static_cast<std::streamsize>(size_bytes));
  if (!in) return BadDictionary("it is cut short");
  absl::StatusOr<NpyHeader> header = ParseDictionary(dictionary);
  if (header.ok()) header->header_bytes = kMagic.size() + 2 + (major == 1 ? 2 : 4) + size_bytes;
  return header;
}

std::string FormatNpyHeader(const std::string& dtype, const Shape& shape) {
  std::string dictionary = absl::StrCat("{'descr': '", dtype, "', 'fortran_order': False, 'shape': (");
  for (size_t i = 0; i < shape.size(); ++i) absl::StrAppend(&dictionary, i > 0 ? " " : "", shape[i], ",");
  if (shape.size() > 1) dictionary.pop_back();  // "(3, 4)", but "(3,)"
  absl::StrAppend(&dictionary, "), }");
  const size_t prefix_bytes = kMagic.size() + 4;
  const size_t unpadded_bytes = prefix_bytes + dictionary.size() + 1;
  dictionary.append((kAlignmentBytes - unpadded_bytes % kAlignmentBytes) % kAlignmentBytes, ' ');
  dictionary.push_back('\n');

  std::string header(kMagic);
  header.append({'\x01', '\x00', static_cast<char>(dictionary.size() & 0xff),
                 static_cast<char>(dictionary.size() >> 8)});
  return header + dictionary;
}

}  // namespace headlight::client
