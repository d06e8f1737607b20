// SPDX-License-Identifier: Apache-2.0
#include "tests/core/checkpoint/corrupt_files.h"

#include <cstring>

#include "core/checkpoint/safetensors.h"

namespace headlight::testing {
namespace {

// Sixteen bytes of data, all of them used.
const char kGoodHeader[] = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                           R"("b":{"dtype":"F16","shape":[2,2],"data_offsets":[8,16]}})";
const std::string& Data() {
  static const std::string data(16, '\x11');
  return data;
}
std::string GoodFile() { return SafetensorsBytes(kGoodHeader, Data()); }

// A file with one tensor "w"; each of the three is JSON.
std::string OneTensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return SafetensorsBytes(
      R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", Data());
}
std::string Shape(const std::string& shape) { return OneTensor(R"("F32")", shape, "[0,16]"); }
std::string Offsets(const std::string& offsets) { return OneTensor(R"("F32")", "[4]", offsets); }

// "[1,1,...,1]"
std::string Ones(int rank) {
  std::string shape = "[1";
  for (int i = 1; i < rank; ++i) shape += ",1";
  return shape + "]";
}

std::string Header(const std::string& json) { return SafetensorsBytes(json, ""); }

std::vector<CorruptFile> BrokenLengths() {
  const std::string good = GoodFile();
  const uint64_t length = std::strlen(kGoodHeader);
  return {
      {"empty", "", {"got 0 bytes, wanted at least the 8"}},
      {"seven_bytes", good.substr(0, 7), {"got 7 bytes, wanted at least the 8"}},
      {"only_a_length", good.substr(0, 8), {"header length: got", "is the file whole?"}},
      {"truncated_in_the_header", good.substr(0, 40), {"header length: got", "is the file whole?"}},
      {"truncated_in_a_tensor", good.substr(0, good.size() - 3), {R"(tensor "b")", "is the file whole?"}},
      {"truncated_between_tensors", good.substr(0, good.size() - 8), {R"(tensor "b")", "is the file whole?"}},
      {"surplus_byte", good + "x", {"got 17 bytes after the header, wanted the 16 bytes of its 2 tensors"}},
      {"length_0", SafetensorsBytes(0, kGoodHeader, Data()), {"header: got \"\", wanted a JSON object"}},
      {"length_one_short", SafetensorsBytes(length - 1, kGoodHeader, Data()), {"header: not JSON"}},
      {"length_one_long", SafetensorsBytes(length + 1, kGoodHeader, Data()), {"header: not JSON"}},
      {"length_beyond_the_limit",
       SafetensorsBytes(SafetensorsFile::kMaxHeaderBytes + 1, kGoodHeader, Data()),
       {"header length: got 104857601"}},
      {"length_2_to_63",
       SafetensorsBytes(uint64_t{1} << 63, kGoodHeader, Data()),
       {"got 9223372036854775808"}},
      {"length_all_ones", SafetensorsBytes(~uint64_t{0}, kGoodHeader, Data()), {"got 18446744073709551615"}},
      {"a_zip_file", "PK\x03\x04" + std::string(2000, 'x'), {"header length", "is this a safetensors file?"}},
  };
}

std::vector<CorruptFile> BrokenJson() {
  const std::string good = kGoodHeader;
  const std::string deep = std::string(100000, '[');
  std::string deep_object;
  for (int i = 0; i < 20000; ++i) deep_object += R"({"k":)";
  return {
      {"array_header", Header("[]"), {"wanted a JSON object"}},
      {"null_header", Header("null"), {"wanted a JSON object"}},
      {"byte_order_mark", Header("\xef\xbb\xbf{}"), {"wanted a JSON object"}},
      {"space_before_the_header", Header(" {}"), {"wanted a JSON object"}},
      {"text_after_the_header", SafetensorsBytes(good + " {}", Data()), {"header: not JSON"}},
      {"nul_after_the_header", SafetensorsBytes(good + '\0', Data()), {"header: not JSON: a NUL at byte"}},
      {"no_comma", Header(R"({"w":{"dtype":"F32" "shape":[]}})"), {R"(tensor "w": not JSON)"}},
      {"invalid_utf8", Header("{\"w\xff\":{}}"), {"header: not JSON", "UTF-8"}},
      {"lone_surrogate", Header(R"({"\ud800":{}})"), {"header: not JSON", "surrogate"}},
      {"deep_shape", Shape(deep), {R"(tensor "w")", "got an array"}},
      {"deep_tensor", Header(R"({"w":)" + deep_object), {R"(tensor "w")", "field \"k\""}},
      {"deep_metadata", Header(R"({"__metadata__":)" + deep_object), {"__metadata__", "got an object"}},
      {"deep_value", Header(R"({"w":)" + deep), {R"(tensor "w": got an array)"}},
  };
}

std::vector<CorruptFile> BrokenMembers() {
  const std::string w = R"("w":{"dtype":"F32","shape":[],"data_offsets":[0,4]})";
  const std::string long_name(1025, 'n');
  return {
      {"duplicate_tensor", SafetensorsBytes("{" + w + "," + w + "}", "1234"), {R"(tensor "w" occurs twice)"}},
      {"duplicate_field", Header(R"({"w":{"dtype":"F32","dtype":"F16"}})"), {R"("w": dtype occurs twice)"}},
      {"duplicate_metadata",
       Header(R"({"__metadata__":{},"__metadata__":{}})"),
       {"__metadata__ occurs twice"}},
      {"duplicate_metadata_key",
       Header(R"({"__metadata__":{"k":"1","k":"2"}})"),
       {R"(key "k" occurs twice)"}},
      {"metadata_array", Header(R"({"__metadata__":[]})"), {"__metadata__: got an array"}},
      {"metadata_number",
       Header(R"({"__metadata__":{"k":1}})"),
       {R"(__metadata__: "k": got 1, wanted a string)"}},
      {"no_dtype", Header(R"({"w":{"shape":[],"data_offsets":[0,0]}})"), {R"(tensor "w": no dtype)"}},
      {"no_shape", Header(R"({"w":{"dtype":"F32","data_offsets":[0,0]}})"), {R"(tensor "w": no shape)"}},
      {"no_offsets", Header(R"({"w":{"dtype":"F32","shape":[0]}})"), {R"(tensor "w": no data_offsets)"}},
      {"empty_tensor", Header(R"({"w":{}})"), {R"(tensor "w": no dtype)"}},
      {"unknown_field", Header(R"({"w":{"dtype":"F32","strides":[]}})"), {R"("w": got a field "strides")"}},
      {"tensor_is_a_number", Header(R"({"w":7})"), {R"(tensor "w": got 7, wanted an object)"}},
      {"tensor_is_null", Header(R"({"w":null})"), {R"(tensor "w": got null, wanted an object)"}},
      {"name_too_long",
       Header("{\"" + long_name + "\":{}}"),
       {"name of 1025 bytes, wanted at most 1024: \"nnn"}},
      {"unknown_dtype", OneTensor(R"("F33")", "[4]", "[0,16]"), {R"("w": got "F33", wanted a dtype)"}},
      {"lower_case_dtype", OneTensor(R"("f32")", "[4]", "[0,16]"), {R"("w": got "f32", wanted a dtype)"}},
      {"numeric_dtype", OneTensor("32", "[4]", "[0,16]"), {R"("w": got 32, wanted a dtype)"}},
      {"dtype_of_other_size",
       OneTensor(R"("F64")", "[4]", "[0,16]"),
       {R"("w")", "16 bytes, wanted the 32 bytes"}},
      {"part_of_a_byte", OneTensor(R"("F4")", "[3]", "[0,16]"), {R"("w")", "[3] of F4, wanted whole bytes"}},
  };
}

std::vector<CorruptFile> BrokenShapes() {
  return {
      {"shape_is_a_number", Shape("4"), {R"(tensor "w": got 4, wanted a shape)"}},
      {"shape_is_a_string", Shape(R"("4")"), {R"(tensor "w": got a string, wanted a shape)"}},
      {"negative_dimension", Shape("[-4]"), {R"("w": got -4, wanted an integer from 0)", "of shape"}},
      {"two_negative_dimensions", Shape("[-2,-2]"), {R"("w": got -2, wanted an integer from 0)"}},
      {"fractional_dimension", Shape("[4.5]"), {R"("w": got 4.5, wanted an integer)"}},
      {"exponent_in_a_dimension", Shape("[4e0]"), {R"("w": got 4e0, wanted an integer)"}},
      {"nan_dimension", Shape("[NaN]"), {R"(tensor "w": not JSON)"}},
      {"infinite_dimension", Shape("[1e999]"), {R"(tensor "w": not JSON)"}},
      {"null_dimension", Shape("[null]"), {R"("w": got null, wanted an integer)"}},
      {"string_dimension", Shape(R"(["4"])"), {R"("w": got a string, wanted an integer)"}},
      {"dimension_2_to_63",
       Shape("[9223372036854775808]"),
       {R"("w": got 9223372036854775808, wanted an integer)"}},
      {"dimension_2_to_64", Shape("[18446744073709551616]"), {R"("w": got 18446744073709551616, wanted)"}},
      {"product_2_to_64", Shape("[4294967296,4294967296]"), {R"("w": shape: got [4294967296, 4294967296])"}},
      {"product_that_wraps_to_4",
       Shape("[4611686018427387905,4]"),
       {R"("w": shape: got [4611686018427387905, 4])"}},
      {"bits_2_to_65", Shape("[1152921504606846976]"), {R"("w": shape: got [1152921504606846976])"}},
      {"shape_2_to_40_in_16_bytes",
       Shape("[1099511627776]"),
       {R"("w")", "16 bytes, wanted the 4398046511104 bytes"}},
      {"shape_of_4_tib",
       OneTensor(R"("F32")", "[1099511627776]", "[0,4398046511104]"),
       {R"("w")", "inside the 16 bytes that follow"}},
      {"65_dimensions", OneTensor(R"("F32")", Ones(65), "[0,4]"), {R"("w": shape: got more than 64)"}},
      {"million_dimensions",
       OneTensor(R"("F32")", Ones(1000000), "[0,4]"),
       {R"("w": shape: got more than 64)"}},
      {"shape_too_small", Shape("[3]"), {R"("w")", "16 bytes, wanted the 12 bytes of [3] F32"}},
      {"shape_with_a_zero", Shape("[4,0]"), {R"("w")", "16 bytes, wanted the 0 bytes of [4, 0] F32"}},
  };
}

std::vector<CorruptFile> BrokenOffsets() {
  // Two tensors of 8 bytes each, "a" at `a` and "b" at `b`.
  const auto two = [](const std::string& a, const std::string& b) {
    return SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":)" + a +
                                R"(},"b":{"dtype":"U8","shape":[8],"data_offsets":)" + b + "}}",
                            Data());
  };
  return {
      {"offsets_are_a_number", Offsets("0"), {R"("w": got 0, wanted data_offsets)"}},
      {"no_offset", Offsets("[]"), {R"("w": data_offsets: got 0 numbers, wanted 2)"}},
      {"one_offset", Offsets("[0]"), {R"("w": data_offsets: got 1 numbers, wanted 2)"}},
      {"three_offsets", Offsets("[0,16,32]"), {R"("w": got 32, wanted data_offsets, two integers)"}},
      {"negative_offset", Offsets("[-16,0]"), {R"("w": got -16, wanted data_offsets)"}},
      {"fractional_offset", Offsets("[0.5,16.5]"), {R"("w": got 0.5, wanted data_offsets)"}},
      {"string_offset", Offsets(R"(["0","16"])"), {R"("w": got a string, wanted data_offsets)"}},
      {"offset_2_to_63",
       Offsets("[0,9223372036854775808]"),
       {R"("w": got 9223372036854775808, wanted data_offsets)"}},
      {"offsets_near_2_to_63",
       Offsets("[9223372036854775791,9223372036854775807]"),
       {R"("w")", "inside the 16 bytes"}},
      {"reversed_offsets",
       Offsets("[16,0]"),
       {R"("w": data_offsets: got [16, 0], wanted the begin before the end)"}},
      {"offsets_beyond_the_file",
       Offsets("[16,32]"),
       {R"("w": data_offsets: got [16, 32], wanted them inside)"}},
      {"offsets_of_other_size", Offsets("[0,12]"), {R"("w")", "12 bytes, wanted the 16 bytes of [4] F32"}},
      {"overlap", two("[0,8]", "[4,12]"), {R"(tensor "b")", "overlap", R"(tensor "a" at [0, 8])"}},
      {"same_bytes_twice", two("[0,8]", "[0,8]"), {R"(tensor "b")", "overlap", R"(tensor "a")"}},
      {"gap_at_the_begin", two("[1,9]", "[9,17]"), {R"(tensor "b")", "is the file whole?"}},
      {"gap_before_all", Offsets("[16,32]") + Data(), {R"(tensor "w")", "a gap", "the begin of the data"}},
      {"gap_between", two("[0,8]", "[9,17]") + "x", {R"(tensor "b")", "a gap", R"(tensor "a" at [0, 8])"}},
      {"rest_at_the_end",
       two("[0,8]", "[8,16]") + Data(),
       {"got 32 bytes after the header, wanted the 16 bytes"}},
      {"empty_tensor_inside_another",
       SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},)"
                        R"("e":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}})",
                        Data()),
       {R"(tensor "e")", "overlap", R"(tensor "a")"}},
      {"data_without_tensors",
       SafetensorsBytes("{}", Data()),
       {"got 16 bytes after the header, wanted the 0 bytes"}},
  };
}

std::string Index(const std::string& weight_map) {
  return R"({"metadata":{},"weight_map":)" + weight_map + "}";
}

}  // namespace

std::string SafetensorsBytes(uint64_t header_bytes, const std::string& json, const std::string& data) {
  std::string bytes(sizeof(header_bytes), '\0');
  std::memcpy(bytes.data(), &header_bytes, sizeof(header_bytes));
  return bytes + json + data;
}

std::string SafetensorsBytes(const std::string& json, const std::string& data) {
  return SafetensorsBytes(json.size(), json, data);
}

std::vector<CorruptFile> CorruptFiles() {
  std::vector<CorruptFile> all;
  for (const auto& group :
       {BrokenLengths(), BrokenJson(), BrokenMembers(), BrokenShapes(), BrokenOffsets()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

std::vector<CorruptFolder> CorruptFolders() {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kNotFound = absl::StatusCode::kNotFound;
  const std::string index = "model.safetensors.index.json";
  const std::string s1 = "model-00001-of-00002.safetensors";
  const std::string s2 = "model-00002-of-00002.safetensors";
  const std::string a = SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "aaaa");
  const std::string b = SafetensorsBytes(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "bbbb");
  const std::string both = Index(R"({"a":")" + s1 + R"(","b":")" + s2 + R"("})");
  const auto naming = [&](const std::string& file) { return Index(R"({"a":")" + file + R"("})"); };
  const std::vector<std::string> outside = {"weight_map: tensor \"a\"",
                                            "wanted the name of a *.safetensors file"};
  return {
      {"nothing", {}, kNotFound, {"wanted model.safetensors or model.safetensors.index.json"}},
      {"only_a_pickle", {{"pytorch_model.bin", "PK"}}, kNotFound, {"got no *.safetensors file"}},
      {"two_files_and_no_index",
       {{s1, a}, {s2, b}},
       kInvalid,
       {"got 2 files", s1, s2, "wanted model.safetensors"}},
      {"corrupt_single_file",
       {{"model.safetensors", a + "x"}},
       kInvalid,
       {"/model.safetensors: got 5 bytes"}},
      {"corrupt_shard", {{index, both}, {s1, a}, {s2, b + "x"}}, kInvalid, {"/" + s2 + ": got 5 bytes"}},
      {"index_is_not_json", {{index, "weights"}, {s1, a}}, kInvalid, {index, "not JSON"}},
      {"empty_index", {{index, ""}, {s1, a}}, kInvalid, {index, "not JSON"}},
      {"index_is_an_array", {{index, "[]"}, {s1, a}}, kInvalid, {index, "weight_map: got none"}},
      {"no_weight_map", {{index, "{}"}, {s1, a}}, kInvalid, {index, "weight_map: got none"}},
      {"weight_map_is_an_array", {{index, Index("[]")}, {s1, a}}, kInvalid, {index, "weight_map: got array"}},
      {"empty_weight_map", {{index, Index("{}")}, {s1, a}}, kInvalid, {index, "weight_map: got object"}},
      {"deep_index",
       {{index, Index(std::string(100000, '['))}, {s1, a}},
       kInvalid,
       {index, "nested deeper than"}},
      {"file_is_a_number", {{index, Index(R"({"a":1})")}, {s1, a}}, kInvalid, {index, "got number, wanted"}},
      {"same_tensor_twice",
       {{index, Index(R"({"a":"x","a":"y"})")}, {s1, a}},
       kInvalid,
       {index, "\"a\" occurs twice"}},
      {"missing_shard", {{index, both}, {s1, a}}, kNotFound, {index, "it lists \"" + s2 + "\""}},
      {"parent_folder", {{index, naming("../a.safetensors")}}, kInvalid, outside},
      {"absolute_path", {{index, naming("/a.safetensors")}}, kInvalid, outside},
      {"subfolder", {{index, naming("sub/a.safetensors")}}, kInvalid, outside},
      {"hidden_parent", {{index, naming("x/../../a.safetensors")}}, kInvalid, outside},
      {"nul_in_a_name", {{index, naming("a\\u0000b.safetensors")}}, kInvalid, outside},
      {"dots", {{index, naming("..")}}, kInvalid, outside},
      {"no_name", {{index, naming("")}}, kInvalid, outside},
      {"name_too_long", {{index, naming(std::string(300, 'x') + ".safetensors")}}, kInvalid, outside},
      {"pickle_in_the_index", {{index, naming("pytorch_model.bin")}}, kInvalid, outside},
      {"tensor_not_in_its_shard",
       {{index, Index(R"({"a":")" + s1 + R"(","c":")" + s1 + R"("})")}, {s1, a}},
       kInvalid,
       {index, R"(tensor "c")", s1, "which has no such tensor"}},
      {"tensor_in_another_shard",
       {{index, Index(R"({"a":")" + s2 + R"(","b":")" + s1 + R"("})")}, {s1, a}, {s2, b}},
       kInvalid,
       {index, R"(tensor "a")", s2, "another file has it"}},
      {"one_tensor_instead_of_another",
       {{index, both}, {s1, a}, {s2, a}},
       kInvalid,
       {index, R"(tensor "b")", s2, "which has no such tensor"}},
  };
}

}  // namespace headlight::testing
