// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/scan_as_infer.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "inference/grpc_service.pb.h"
#include "server/oip/infer_message.h"
#include "server/oip/typed_contents.h"
#include "server/wire/byte_segments.h"
#include "tests/fuzz/promise.h"

namespace headlight::testing {
namespace {

using inference::InferTensorContents;
using inference::ModelInferRequest;

ByteSegments CutMessage(std::span<const std::byte> bytes, size_t segment_bytes) {
  ByteSegments segments;
  for (size_t begin = 0; begin < bytes.size(); begin += segment_bytes) {
    segments.Append(bytes.subspan(begin, std::min(segment_bytes, bytes.size() - begin)));
  }
  return segments;
}

std::string FlatOf(const ByteSegments& segments) {
  std::string copy(static_cast<size_t>(segments.size_bytes()), '\0');
  void* const to = copy.data();
  segments.CopyTo(0, segments.size_bytes(), static_cast<std::byte*>(to));
  return copy;
}

// The same for messages that are equal, maps included.
std::string Canonical(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream out(&stream);
  out.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&out);
  out.Trim();
  return bytes;
}

template <typename Stored, typename Numbers>
std::string BytesOfNumbers(const Numbers& numbers) {
  std::string bytes;
  for (const auto& number : numbers) {
    const auto stored = static_cast<Stored>(number);
    char element[sizeof(Stored)];
    std::memcpy(element, &stored, sizeof(Stored));
    bytes.append(element, sizeof(Stored));
  }
  return bytes;
}

std::string RawOf(const InferTensorContents& contents, DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return BytesOfNumbers<uint8_t>(contents.bool_contents());
    case DType::kI32:
      return BytesOfNumbers<int32_t>(contents.int_contents());
    case DType::kI64:
      return BytesOfNumbers<int64_t>(contents.int64_contents());
    default:
      return BytesOfNumbers<float>(contents.fp32_contents());
  }
}

void CheckContents(const ByteSegments& contents) {
  const std::string field = "contents";
  const std::string flat = FlatOf(contents);
  for (const DType dtype : {DType::kF32, DType::kI64, DType::kI32, DType::kBool}) {
    const absl::StatusOr<TypedContents> found = FindContents(field, contents, dtype);
    if (!found.ok()) {
      CheckRefusal(found.status());
      continue;
    }
    InferTensorContents parsed;
    Check(parsed.ParseFromString(flat), "protobuf takes the contents that are taken");
    const std::string raw = RawOf(parsed, dtype);
    Check(found->num_elements * SizeOf(dtype) == static_cast<int64_t>(raw.size()),
          "elements are counted right");
    std::string decoded(raw.size(), '\0');
    void* const to = decoded.data();
    DecodeContents(contents, dtype, static_cast<std::byte*>(to));
    // Bits of floats that are no numbers may change where a float is copied as one.
    Check(dtype == DType::kF32 || decoded == raw, "elements are what protobuf reads");
    if (found->in_place) Check(FlatOf(found->packed) == decoded, "elements in place are those decoded");
  }
}

void CheckAgainstParse(std::span<const std::byte> bytes, const ParsedInfer& parsed) {
  ModelInferRequest expected;
  bool contents_are_sound = true;
  for (const std::optional<ByteSegments>& contents : parsed.contents) {
    InferTensorContents ignored;
    if (contents) contents_are_sound = contents_are_sound && ignored.ParseFromString(FlatOf(*contents));
  }
  Check(expected.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) == contents_are_sound,
        "protobuf takes what is taken, but for contents that nobody has looked at");
  if (!contents_are_sound) return;
  Check(expected.raw_input_contents_size() == std::ssize(parsed.raw), "no raw contents are lost");
  for (int i = 0; i < expected.raw_input_contents_size(); ++i) {
    Check(expected.raw_input_contents(i) == FlatOf(parsed.raw[i]), "raw contents are what protobuf reads");
  }
  expected.clear_raw_input_contents();
  Check(expected.inputs_size() == std::ssize(parsed.contents), "every input is looked at");
  for (int i = 0; i < expected.inputs_size(); ++i) {
    ModelInferRequest::InferInputTensor& input = *expected.mutable_inputs(i);
    Check(input.has_contents() == parsed.contents[i].has_value(), "contents are found where they are");
    if (!input.has_contents()) continue;
    InferTensorContents merged;
    Check(merged.ParseFromString(FlatOf(*parsed.contents[i])), "contents can be read");
    Check(Canonical(merged) == Canonical(input.contents()), "contents are what protobuf reads");
    input.clear_contents();
  }
  expected.DiscardUnknownFields();  // of which nothing is kept
  Check(Canonical(expected) == Canonical(parsed.request), "all other known fields are what protobuf reads");
}

}  // namespace

bool ScanAsInfer(std::span<const std::byte> bytes) {
  const ByteSegments message = CutMessage(bytes, std::max<size_t>(bytes.size(), 1));
  const absl::StatusOr<ParsedInfer> whole = ParseInfer(message);
  for (const size_t segment_bytes : {1, 3, 37}) {
    const ByteSegments pieces = CutMessage(bytes, segment_bytes);
    const absl::StatusOr<ParsedInfer> cut = ParseInfer(pieces);
    Check(cut.status() == whole.status(), "where a message is cut changes nothing of what is said of it");
    if (!whole.ok()) continue;
    Check(Canonical(cut->request) == Canonical(whole->request), "where a message is cut changes no field");
    for (const std::optional<ByteSegments>& contents : cut->contents) {
      if (contents) CheckContents(*contents);
    }
  }
  if (!whole.ok()) {
    CheckRefusal(whole.status());
    return false;
  }
  CheckAgainstParse(bytes, *whole);
  return true;
}

}  // namespace headlight::testing
