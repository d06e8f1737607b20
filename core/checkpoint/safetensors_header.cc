// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/bounded_json.h"

namespace headlight {
namespace {

using Tensor = SafetensorsHeader::Tensor;

// Takes the events of
//   {"__metadata__": {name: string, ...} or null,
//    name: {"dtype": string, "shape": [int, ...], "data_offsets": [int, int]}, ...}
// and nothing else; the depth of the JSON is bounded by that.
class HeaderHandler final : public JsonHandler {
 public:
  HeaderHandler(const std::string& file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool start_object(size_t /*elements*/) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kNames;
        return true;
      case Place::kMetadataStart:
        place_ = Place::kMetadata;
        return true;
      case Place::kTensorStart:
        place_ = Place::kFields;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kFields) {
      for (size_t field = 0; field < kFields.size(); ++field) {
        if (!seen_[field]) return Fail(absl::StrCat("no ", kFields[field]));
      }
    }
    place_ = place_ == Place::kNames ? Place::kEnd : Place::kNames;
    return true;
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::kNames:
        return name == kSafetensorsMetadataKey ? BeginMetadata() : BeginTensor(name);
      case Place::kMetadata:
        return BeginMetadataValue(name);
      default:
        return BeginField(name);
    }
  }

  bool null() override {  // as some writers have it who know nothing to say
    if (place_ != Place::kMetadataStart) return Unexpected("null");
    place_ = Place::kNames;
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata_value_->second = std::move(value);
      return true;
    }
    if (place_ != Place::kDtype) return Unexpected("a string");
    if (!SafetensorsDtypeBits(value)) return Unexpected(Quoted(value));
    tensor_->second.dtype = std::move(value);
    place_ = Place::kFields;
    return true;
  }

  bool start_array(size_t /*elements*/) override {
    if (place_ == Place::kShape) {
      place_ = Place::kDims;
    } else if (place_ == Place::kOffsets) {
      place_ = Place::kOffsetValues;
    } else {
      return Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsetValues && num_offsets_ != 2) {
      return Fail(absl::StrCat("data_offsets: got ", num_offsets_, " numbers, wanted 2"));
    }
    place_ = Place::kFields;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max())) {
      return Unexpected(std::to_string(value));
    }
    if (place_ == Place::kDims) {
      if (tensor_->second.shape.size() == kMaxTensorRank) {
        return Fail(absl::StrCat("shape: got more than ", kMaxTensorRank, " dimensions"));
      }
      tensor_->second.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ != Place::kOffsetValues || num_offsets_ == 2) return Unexpected(std::to_string(value));
    (num_offsets_++ == 0 ? tensor_->second.begin : tensor_->second.end) = static_cast<int64_t>(value);
    return true;
  }

 private:
  // Where in the header the next event belongs.
  enum class Place {
    kStart,          // before the header
    kNames,          // among the tensors
    kMetadataStart,  // before the object of __metadata__
    kMetadata,
    kTensorStart,  // before the object of a tensor
    kFields,
    kDtype,
    kShape,
    kDims,
    kOffsets,
    kOffsetValues,
    kEnd,
  };
  static constexpr std::array<absl::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
  static constexpr std::array<Place, 3> kFieldPlaces = {Place::kDtype, Place::kShape, Place::kOffsets};

  bool BeginMetadata() {
    if (std::exchange(has_metadata_, true))
      return Fail(absl::StrCat(kSafetensorsMetadataKey, " occurs twice"));
    place_ = Place::kMetadataStart;
    return true;
  }

  bool BeginMetadataValue(const std::string& name) {
    if (header_.metadata.size() == kMaxSafetensorsEntries) {
      return Fail(absl::StrCat("more than ", kMaxSafetensorsEntries, " values"));
    }
    const auto [value, is_new] = header_.metadata.try_emplace(name);
    if (!is_new) return Fail(absl::StrCat("key ", Quoted(name), " occurs twice"));
    metadata_value_ = value;
    return true;
  }

  bool BeginTensor(const std::string& name) {
    if (name.size() > kMaxTensorNameBytes) {
      return Fail(absl::StrCat("got a tensor name of ", name.size(), " bytes, wanted at most ",
                               kMaxTensorNameBytes, ": ", Quoted(name)));
    }
    if (header_.tensors.size() == kMaxSafetensorsEntries) {
      return Fail(absl::StrCat("more than ", kMaxSafetensorsEntries, " tensors"));
    }
    const auto [tensor, is_new] = header_.tensors.try_emplace(name);
    if (!is_new) return Fail(absl::StrCat("tensor ", Quoted(name), " occurs twice"));
    tensor_ = tensor;
    seen_ = {};
    num_offsets_ = 0;
    place_ = Place::kTensorStart;
    return true;
  }

  bool BeginField(const std::string& name) {
    const size_t field = std::find(kFields.begin(), kFields.end(), name) - kFields.begin();
    if (field == kFields.size()) {
      return Fail(absl::StrCat("got a field ", Quoted(name), ", wanted dtype, shape and data_offsets only"));
    }
    if (std::exchange(seen_[field], true)) return Fail(absl::StrCat(kFields[field], " occurs twice"));
    place_ = kFieldPlaces[field];
    return true;
  }

  std::string Here() const override {
    switch (place_) {
      case Place::kStart:
      case Place::kNames:
      case Place::kEnd:
        return absl::StrCat(file_, ": header");
      case Place::kMetadataStart:
        return absl::StrCat(file_, ": ", kSafetensorsMetadataKey);
      case Place::kMetadata:
        return absl::StrCat(
            file_, ": ", kSafetensorsMetadataKey,
            header_.metadata.empty() ? "" : absl::StrCat(": ", Quoted(metadata_value_->first)));
      default:
        return absl::StrCat(file_, ": tensor ", Quoted(tensor_->first));
    }
  }

  std::string Wanted() const override {
    switch (place_) {
      case Place::kStart:
        return "an object";
      case Place::kMetadataStart:
        return "an object of strings";
      case Place::kMetadata:
        return "a string";
      case Place::kTensorStart:
        return "an object with dtype, shape and data_offsets";
      case Place::kDtype:
        return "a dtype of the format, such as \"F32\"";
      case Place::kShape:
        return "a shape, an array of integers";
      case Place::kDims:
        return "an integer from 0 to 2^63 - 1 as a dimension of shape";
      case Place::kOffsets:
      case Place::kOffsetValues:
        return "data_offsets, two integers from 0 to 2^63 - 1";
      case Place::kNames:
      case Place::kFields:
      case Place::kEnd:
        break;
    }
    return "";
  }

  const std::string& file_;
  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  std::map<std::string, std::string>::iterator metadata_value_;  // whose string comes next
  std::map<std::string, Tensor>::iterator tensor_;               // whose object is open
  std::array<bool, 3> seen_ = {};                                // its fields
  int num_offsets_ = 0;
};

std::string Range(const Tensor& tensor) { return absl::StrCat("[", tensor.begin, ", ", tensor.end, "]"); }

// What the tensor says of itself: its dtype and shape make as many bytes as it has, inside the data.
absl::Status CheckTensor(const Tensor& tensor, int64_t data_bytes, const std::string& where) {
  const auto refuse = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", parts...));
  };
  if (tensor.begin > tensor.end) {
    return refuse("data_offsets: got ", Range(tensor), ", wanted the begin before the end");
  }
  const std::optional<int64_t> elements = NumElements(tensor.shape);
  int64_t bits = 0;
  if (!elements || __builtin_mul_overflow(*elements, *SafetensorsDtypeBits(tensor.dtype), &bits)) {
    return refuse("shape: got ", ToString(tensor.shape), ", wanted a size in bits below 2^63");
  }
  if (bits % 8 != 0) {
    return refuse("shape: got ", ToString(tensor.shape), " of ", tensor.dtype, ", wanted whole bytes");
  }
  if (tensor.end - tensor.begin != bits / 8) {
    return refuse("data_offsets: got ", Range(tensor), ", ", tensor.end - tensor.begin, " bytes, wanted the ",
                  bits / 8, " bytes of ", ToString(tensor.shape), " ", tensor.dtype);
  }
  if (tensor.end > data_bytes) {
    return refuse("data_offsets: got ", Range(tensor), ", wanted them inside the ", data_bytes,
                  " bytes that follow the header; is the file whole?");
  }
  return absl::OkStatus();
}

// The tensors divide the data among them.
absl::Status CheckLayout(const SafetensorsHeader& header, int64_t data_bytes, const std::string& name) {
  using Item = std::map<std::string, Tensor>::value_type;
  std::vector<const Item*> in_order;
  in_order.reserve(header.tensors.size());
  for (const Item& item : header.tensors) {
    HEADLIGHT_RETURN_IF_ERROR(
        CheckTensor(item.second, data_bytes, absl::StrCat(name, ": tensor ", Quoted(item.first))));
    in_order.push_back(&item);
  }
  std::sort(in_order.begin(), in_order.end(), [](const Item* a, const Item* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });
  int64_t covered = 0;
  const Item* previous = nullptr;
  for (const Item* item : in_order) {
    if (item->second.begin != covered) {
      const std::string before =
          previous == nullptr
              ? "the begin of the data"
              : absl::StrCat("the end of tensor ", Quoted(previous->first), " at ", Range(previous->second));
      return absl::InvalidArgumentError(absl::StrCat(
          name, ": tensor ", Quoted(item->first), ": data_offsets: got ", Range(item->second), ", ",
          item->second.begin < covered ? "which overlap" : "a gap", ", wanted them to follow ", before));
    }
    covered = item->second.end;
    previous = item;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": got ", data_bytes,
                                                   " bytes after the header, wanted the ", covered,
                                                   " bytes of its ", header.tensors.size(), " tensors"));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<int64_t> SafetensorsDtypeBits(absl::string_view dtype) {
  static constexpr std::pair<absl::string_view, int64_t> kBits[] = {
      {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},        {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"I64", 64},    {"U64", 64},    {"F64", 64},    {"C64", 64},
  };
  for (const auto& [name, bits] : kBits) {
    if (name == dtype) return bits;
  }
  return std::nullopt;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json, int64_t data_bytes,
                                                         const std::string& name) {
  // The format wants the brace first; the JSON library would skip white space and a byte order mark.
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError(absl::StrCat(name, ": header: got ", Quoted(json.substr(0, 16)),
                                                   ", wanted a JSON object, which begins with {"));
  }
  // Writers pad with spaces. The JSON library would collect them as a token.
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  SafetensorsHeader header;
  HeaderHandler handler(name, header);
  HEADLIGHT_RETURN_IF_ERROR(ScanJson(json, handler, absl::StrCat(name, ": header")));
  try {
    HEADLIGHT_RETURN_IF_ERROR(CheckLayout(header, data_bytes, name));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, ": no memory to check ", header.tensors.size(), " tensors"));
  }
  return header;
}

}  // namespace headlight
