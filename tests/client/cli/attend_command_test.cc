// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "client/files/npy_header.h"
#include "client/files/npz.h"
#include "client/npy.h"
#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::RunHeadlight;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class AttendCommandTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.File(name); }

  // `headlight attend` against the fake server.
  CliResult Attend(std::vector<std::string> words) {
    words.insert(words.begin(), {"attend", "--server", server_.target()});
    return RunHeadlight(words);
  }

  FakeServer server_;

 private:
  const ::headlight::testing::TempFolder folder_;
};

TEST_F(AttendCommandTest, PrintsShapesChecksumAndTimeBudget) {
  const CliResult result = Attend({"--shape", "2x3", "--weights", "full", "--request-id", "seven"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("model demo, version 1, request seven\n"));
  EXPECT_THAT(result.out, HasSubstr("tensor   shape         min     mean "));
  EXPECT_THAT(result.out, HasSubstr("query    [2, 3, 4]\n"));
  EXPECT_THAT(result.out, HasSubstr("output   [2, 3, 4]     "));
  EXPECT_THAT(result.out, ContainsRegex("weights  \\[1, 1, 1, 2\\]  0.25 +0.5 +0.75 +1 +[0-9a-f]{8}\n"));
  EXPECT_THAT(result.out, HasSubstr("queued      0.100 ms"));
  EXPECT_THAT(result.out, HasSubstr("computed    0.200 ms"));
  EXPECT_THAT(result.out,
              HasSubstr("in a batch of 2 requests, 3 sequences, 30 tokens; kernel fake, 7 threads"));
  EXPECT_THAT(result.out, HasSubstr("in server   0.400 ms"));
}

TEST_F(AttendCommandTest, JsonIsOneObject) {
  const CliResult result =
      Attend({"--shape", "1x2", "--kv-shape", "1x5", "--model", "cross", "--json", "--weights", "full"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  auto json = nlohmann::json::parse(result.out);
  EXPECT_GT(json["client_us"], 0);
  json.erase("client_us");
  EXPECT_THAT(json["output"]["crc32"].get<std::string>(), SizeIs(8));
  EXPECT_TRUE(json["output"]["sum"].is_number_float());
  EXPECT_LE(json["output"]["min"], json["output"]["mean"]);
  EXPECT_LE(json["output"]["mean"], json["output"]["max"]);
  EXPECT_EQ(json["output"]["non_finite"], 0);
  json["output"] = {{"shape", json["output"]["shape"]}};
  json["weights"].erase("crc32");
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "model": "cross", "model_version": "1", "request_id": "",
    "query": {"shape": [1, 2, 4]}, "key": {"shape": [1, 5, 3]}, "value": {"shape": [1, 5, 2]},
    "output_dtype": "f32", "output": {"shape": [1, 2, 4]}, "weights": {"shape": [1, 1, 1, 2], "min": 0.25, "mean": 0.5,
    "max": 0.75, "non_finite": 0, "sum": 1.0}, "notes": [],
    "time_budget": {"queue_us": 100, "compute_us": 200, "total_us": 400, "batch_requests": 2,
                    "batch_sequences": 3, "batch_tokens": 30, "kernel": "fake", "compute_threads": 7, "pack_us": 20,
                    "unpack_us": 30, "predicted_us": 240}})"));
}

TEST_F(AttendCommandTest, FlagsReachTheServer) {
  const CliResult result =
      Attend({"--shape", "2x3", "--seq-lens", "3,1", "--kv-shape", "2x5", "--kv-seq-lens", "5,4", "--causal",
              "--weights", "mean", "--model-version", "9", "--request-id", "id"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::AttendRequest request = server_.requests()[0];
  EXPECT_EQ(request.model(), "demo");
  EXPECT_EQ(request.model_version(), "9");
  EXPECT_EQ(request.request_id(), "id");
  EXPECT_THAT(request.query().shape(), ElementsAre(2, 3, 4));
  EXPECT_THAT(request.key().shape(), ElementsAre(2, 5, 4));
  EXPECT_FALSE(request.has_value());
  EXPECT_THAT(request.seq_lens(), ElementsAre(3, 1));
  EXPECT_THAT(request.kv_seq_lens(), ElementsAre(5, 4));
  EXPECT_TRUE(request.causal());
  EXPECT_EQ(request.weights().mode(), v1::WEIGHTS_MODE_MEAN);
}

TEST_F(AttendCommandTest, TheSameSeedSendsTheSameBytes) {
  EXPECT_EQ(Attend({"--shape", "1x2", "--seed", "5"}).exit_code, 0);
  EXPECT_EQ(Attend({"--shape", "1x2", "--seed", "5"}).exit_code, 0);
  EXPECT_EQ(Attend({"--shape", "1x2", "--seed", "6"}).exit_code, 0);
  const std::vector<v1::AttendRequest> requests = server_.requests();
  ASSERT_THAT(requests, SizeIs(3));
  EXPECT_EQ(requests[0].payloads(0), requests[1].payloads(0));
  EXPECT_NE(requests[0].payloads(0), requests[2].payloads(0));
}

// As numpy.save does.
template <typename T>
void WriteIds(const std::string& path, const Shape& shape, const std::vector<T>& ids) {
  std::ofstream file(path, std::ios::binary);
  file << FormatNpyHeader(sizeof(T) == 8 ? "<i8" : "<i4", shape)
       << std::string(static_cast<const char*>(static_cast<const void*>(ids.data())), ids.size() * sizeof(T));
}

TEST_F(AttendCommandTest, IdsComeFromFilesAsTheyAre) {
  WriteIds<int64_t>(Path("ids.npy"), {2, 3}, {1, 2, 3, 4, 5, 6});
  WriteIds<int32_t>(Path("types.npy"), {2, 3}, {0, 0, 0, 1, 1, 1});
  const CliResult result = Attend({"--model", "encoder", "--ids", Path("ids.npy"), "--token-types",
                                   Path("types.npy"), "--seq-lens", "3,2", "--layer", "1", "--weights",
                                   "full", "--pooled", "--output", Path("out.npy"), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::AttendRequest request = server_.requests()[0];
  EXPECT_FALSE(request.has_query());
  EXPECT_EQ(request.token_ids().dtype(), v1::DTYPE_I64);
  EXPECT_THAT(request.token_ids().shape(), ElementsAre(2, 3));
  EXPECT_EQ(request.token_types().dtype(), v1::DTYPE_I32);
  EXPECT_EQ(request.payloads(0).size(), 48u);
  EXPECT_EQ(request.payloads(1).size(), 24u);
  EXPECT_THAT(request.seq_lens(), ElementsAre(3, 2));
  EXPECT_EQ(request.pooling(), v1::POOLING_MODE_MODEL);
  EXPECT_EQ(request.weights().layer(), 1);
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["token_ids"]["shape"], nlohmann::json({2, 3}));
  EXPECT_EQ(json["token_types"]["shape"], nlohmann::json({2, 3}));
  EXPECT_FALSE(json.contains("query"));
  const auto output = ReadNpyTensorFile(Path("out.npy"));
  ASSERT_THAT(output, IsOk());
  EXPECT_THAT(output->shape, ElementsAre(2, 1));
}

TEST_F(AttendCommandTest, WithoutAFileAnEncoderGetsRandomIds) {
  const CliResult result = Attend({"--model", "encoder", "--shape", "2x5", "--pooling", "cls"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("token_ids  [2, 5]\n"));
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].token_ids().shape(), ElementsAre(2, 5));
  EXPECT_EQ(server_.requests()[0].pooling(), v1::POOLING_MODE_CLS);
}

TEST_F(AttendCommandTest, IdsAreWholeNumbers) {
  ASSERT_THAT(WriteNpyFile({.shape = {1}, .values = {1}}, Path("floats.npy")), IsOk());
  const CliResult result = Attend({"--model", "encoder", "--ids", Path("floats.npy")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("floats.npy: dtype: got '<f4', wanted '<i4' or '<i8'\n"));
}

TEST_F(AttendCommandTest, ReadsInputFilesAndWritesResultFiles) {
  const Tensor query{.shape = {1, 2, 4}, .values = {1, 2, 3, 4, 5, 6, 7, 8}};
  const Tensor key{.shape = {1, 1, 3}, .values = {1, 2, 3}};
  const Tensor value{.shape = {1, 1, 2}, .values = {4, 5}};
  const Tensor mask{.shape = {1, 1, 2, 1}, .values = {0, -1}};
  ASSERT_THAT(WriteNpyFile(query, Path("query.npy")), IsOk());
  ASSERT_THAT(WriteNpyFile(key, Path("key.npy")), IsOk());
  ASSERT_THAT(WriteNpyFile(value, Path("value.npy")), IsOk());
  ASSERT_THAT(WriteNpyFile(mask, Path("mask.npy")), IsOk());
  const CliResult result = Attend({"--input", Path("query.npy"), "--key", Path("key.npy"), "--value",
                                   Path("value.npy"), "--mask", Path("mask.npy"), "--weights", "full",
                                   "--output", Path("out.npy"), "--weights-output", Path("w.npy")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].value().shape(), ElementsAre(1, 1, 2));
  EXPECT_THAT(server_.requests()[0].mask().shape(), ElementsAre(1, 1, 2, 1));
  const auto output = ReadNpyTensorFile(Path("out.npy"));
  ASSERT_THAT(output, IsOk());
  EXPECT_EQ(output->shape, query.shape);
  EXPECT_EQ(output->values, query.values);
  const auto weights = ReadNpyTensorFile(Path("w.npy"));
  ASSERT_THAT(weights, IsOk());
  EXPECT_THAT(weights->values, ElementsAre(0.25f, 0.75f));
}

TEST_F(AttendCommandTest, FlagsOfWeightsWindowsAndTypesReachTheServer) {
  const CliResult result =
      Attend({"--shape", "1x3", "--window-left", "0", "--window-right", "7", "--weights", "top-k", "--top-k",
              "2", "--heads", "1,0", "--queries", "1:3", "--dtype", "f16", "--output-dtype", "bf16"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::AttendRequest request = server_.requests()[0];
  EXPECT_TRUE(request.has_window_left());
  EXPECT_EQ(request.window_left(), 0);
  EXPECT_EQ(request.window_right(), 7);
  EXPECT_EQ(request.weights().mode(), v1::WEIGHTS_MODE_TOP_K);
  EXPECT_EQ(request.weights().top_k(), 2);
  EXPECT_THAT(request.weights().heads(), ElementsAre(1, 0));
  EXPECT_EQ(request.weights().query_begin(), 1);
  EXPECT_EQ(request.weights().query_end(), 3);
  EXPECT_EQ(request.query().dtype(), v1::DTYPE_F16);
  EXPECT_EQ(request.payloads(0).size(), 3u * 4 * 2);
  EXPECT_EQ(request.output_dtype(), v1::DTYPE_BF16);
}

TEST_F(AttendCommandTest, TopKWritesWeightsAndKeys) {
  const CliResult result = Attend({"--shape", "1x1", "--weights", "top-k", "--top-k", "2", "--weights-output",
                                   Path("w.npy"), "--weights-keys-output", Path("k.npy")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("weights_keys  [1, 1, 1, 2]\n"));
  EXPECT_THAT(ReadNpyTensorFile(Path("w.npy"))->values, ElementsAre(0.75f, 0.0f));
  std::ifstream file(Path("k.npy"), std::ios::binary);
  const auto header = ReadNpyHeader(file);
  ASSERT_THAT(header, IsOk());
  EXPECT_EQ(header->dtype, "<i4");
  EXPECT_THAT(header->shape, ElementsAre(1, 1, 1, 2));
  int32_t keys[2] = {};
  file.read(reinterpret_cast<char*>(keys), sizeof(keys));
  EXPECT_THAT(keys, ElementsAre(5, -1));
}

TEST_F(AttendCommandTest, ASummaryIsATableAndAListOfObjects) {
  const CliResult text = Attend({"--shape", "1x1", "--weights", "summary", "--heads", "1"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, ContainsRegex("received_mass  \\[1, 1, 2\\]  0.5 +1 +1.5 +2 +[0-9a-f]{8}\n"));
  EXPECT_THAT(text.out, HasSubstr("\n0         1     0.5           1                0.25        0.125"));
  const CliResult result = Attend({"--shape", "1x1", "--weights", "summary", "--heads", "1", "--json",
                                   "--received-output", Path("r.npy")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["summary"], nlohmann::json::parse(R"([{"sequence": 0, "head": 1, "entropy_nats": 0.5,
    "distance_tokens": 1.0, "max_weight": 0.25, "self_mass": 0.125, "first_token_mass": 0.0,
    "effective_support": 2.0}])"));
  EXPECT_EQ(json["received_mass"]["sum"], 2.0);
  EXPECT_THAT(ReadNpyTensorFile(Path("r.npy"))->values, ElementsAre(1.5f, 0.5f));
}

TEST_F(AttendCommandTest, TopKIsATableAndAListOfObjects) {
  const std::vector<std::string> words = {"--shape", "1x9",     "--weights", "top-k",     "--top-k",
                                          "2",       "--heads", "3",         "--queries", "7:8"};
  const CliResult text = Attend(words);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, EndsWith("\nsequence  head  query  key: weight\n0         3     7      5: 0.7500\n"));
  std::vector<std::string> as_json = words;
  as_json.push_back("--json");
  const auto json = nlohmann::json::parse(Attend(as_json).out);
  EXPECT_EQ(
      json["top_k"],
      nlohmann::json::parse(R"([{"sequence": 0, "head": 3, "query": 7, "keys": [5], "weights": [0.75]}])"));
}

TEST_F(AttendCommandTest, AnArchiveHoldsAllInputs) {
  const CliResult result = Attend({"--input", HEADLIGHT_CLIENT_TESTDATA "/deflated.npz"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err,
            "headlight: note: " HEADLIGHT_CLIENT_TESTDATA "/deflated.npz: key: f64 was rounded to f32\n");
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::AttendRequest request = server_.requests()[0];
  EXPECT_THAT(request.query().shape(), ElementsAre(1, 6, 4));
  EXPECT_THAT(request.key().shape(), ElementsAre(1, 3, 4));
  EXPECT_THAT(request.value().shape(), ElementsAre(1, 3, 4));
  EXPECT_THAT(request.mask().shape(), ElementsAre(1, 1, 6, 3));
  EXPECT_EQ(request.mask().dtype(), v1::DTYPE_BOOL);
  EXPECT_THAT(request.seq_lens(), ElementsAre(6));
  EXPECT_THAT(request.kv_seq_lens(), ElementsAre(3));
  EXPECT_EQ(request.payloads(3).substr(0, 6), std::string("\1\0\0\1\1\0", 6));
}

TEST_F(AttendCommandTest, AnArchiveMayHoldIds) {
  NpzWriter archive(Path("ids.npz"));
  archive.Add("token_ids", IntTensor{.shape = {3}, .values = {7, 8, 9}});
  archive.Add("token_types", IntTensor{.shape = {3}, .values = {0, 1, 1}});
  archive.Add("seq_lens", IntTensor{.shape = {2}, .values = {1, 2}});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult result = Attend({"--model", "encoder", "--input", Path("ids.npz"), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].token_ids().shape(), ElementsAre(3));
  EXPECT_THAT(server_.requests()[0].token_types().shape(), ElementsAre(3));
  EXPECT_THAT(server_.requests()[0].seq_lens(), ElementsAre(1, 2));
}

TEST_F(AttendCommandTest, AnArchiveMayHoldWhatATokenizerMakes) {
  NpzWriter archive(Path("tokenizer.npz"));
  archive.Add("attention_mask", IntTensor{.shape = {2, 3}, .values = {1, 1, 1, 1, 0, 0}});
  archive.Add("input_ids", IntTensor{.shape = {2, 3}, .values = {101, 7, 102, 9, 0, 0}});
  archive.Add("token_type_ids", IntTensor{.shape = {2, 3}, .values = {0, 0, 1, 0, 0, 0}});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult result = Attend({"--model", "encoder", "--input", Path("tokenizer.npz"), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::AttendRequest request = server_.requests()[0];
  EXPECT_THAT(request.token_ids().shape(), ElementsAre(2, 3));
  EXPECT_THAT(request.token_types().shape(), ElementsAre(2, 3));
  EXPECT_THAT(request.seq_lens(), ElementsAre(3, 1));
  EXPECT_FALSE(request.has_mask());
  EXPECT_EQ(request.payloads(0)[0], 101);
}

TEST_F(AttendCommandTest, AMaskOfTokensMayBeBoolAndBelongToAQuery) {
  NpzWriter archive(Path("query.npz"));
  archive.Add("query", Tensor{.shape = {1, 2, 4}, .values = std::vector<float>(8)});
  archive.Add("attention_mask", ByteTensor{.shape = {1, 2}, .values = {1, 0}});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult result = Attend({"--input", Path("query.npz")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].seq_lens(), ElementsAre(1));
}

TEST_F(AttendCommandTest, AMaskOfTokensIsThatOfTheKeysWhereThereAreSome) {
  NpzWriter archive(Path("crossed.npz"));
  archive.Add("query", Tensor{.shape = {1, 1, 4}, .values = std::vector<float>(4)});
  archive.Add("key", Tensor{.shape = {1, 3, 4}, .values = std::vector<float>(12)});
  archive.Add("attention_mask", IntTensor{.shape = {1, 3}, .values = {1, 1, 0}});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult result = Attend({"--input", Path("crossed.npz")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].seq_lens(), IsEmpty());
  EXPECT_THAT(server_.requests()[0].kv_seq_lens(), ElementsAre(2));
}

TEST_F(AttendCommandTest, AMaskOfFourDimensionsIsAMaskByThatNameToo) {
  NpzWriter archive(Path("masked.npz"));
  archive.Add("query", Tensor{.shape = {1, 1, 4}, .values = std::vector<float>(4)});
  archive.Add("attention_mask", Tensor{.shape = {1, 1, 1, 1}, .values = {-1.5f}});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult result = Attend({"--input", Path("masked.npz")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].mask().shape(), ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(server_.requests()[0].mask().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(server_.requests()[0].seq_lens(), IsEmpty());
}

TEST_F(AttendCommandTest, WhatATokenizerSaysTwiceOrOtherwiseIsRefused) {
  const IntTensor ids{.shape = {1, 2}, .values = {5, 6}}, left{.shape = {1, 2}, .values = {0, 1}};
  const IntTensor lens{.shape = {1}, .values = {2}};
  const auto make = [&](const std::string& name,
                        const std::vector<std::pair<std::string, IntTensor>>& arrays) {
    NpzWriter writer(Path(name));
    for (const auto& [array, values] : arrays) writer.Add(array, values);
    EXPECT_THAT(writer.Finish(), IsOk());
    return Path(name);
  };
  const std::string floats = Path("floats.npz");
  NpzWriter writer(floats);
  writer.Add("input_ids", ids);
  writer.Add("attention_mask", Tensor{.shape = {1, 2}, .values = {1, 0}});
  ASSERT_THAT(writer.Finish(), IsOk());
  const struct {
    std::string archive;
    std::string reason;
  } cases[] = {
      {make("left.npz", {{"input_ids", ids}, {"attention_mask", left}}),
       "attention_mask: sequence 0: got padding at its first place, wanted tokens first"},
      {make("wide.npz", {{"input_ids", ids}, {"attention_mask", lens}}),
       "attention_mask: got shape [1], wanted [batch, seq_len] of an input of shape [1, 2]"},
      {make("lens.npz", {{"input_ids", ids}, {"attention_mask", ids}, {"seq_lens", lens}}),
       "attention_mask and seq_lens both say how long sequences are, wanted one"},
      {floats, "attention_mask: got <f4 [1, 2], wanted whole numbers or bool for [batch, seq_len]"},
      {make("twice.npz", {{"token_ids", ids}, {"input_ids", ids}}),
       "input_ids: got it under its other name too, wanted one of the two"},
      {make("special.npz", {{"input_ids", ids}, {"special_tokens_mask", ids}}),
       "got an array 'special_tokens_mask', wanted query, key, value, mask, token_ids, token_types, seq_lens "
       "and "
       "kv_seq_lens, or input_ids, token_type_ids and attention_mask, only"},
  };
  for (const auto& [archive, reason] : cases) {
    const CliResult result = Attend({"--model", "encoder", "--input", archive});
    EXPECT_EQ(result.exit_code, 2) << reason;
    EXPECT_THAT(result.err, HasSubstr(reason));
  }
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(AttendCommandTest, AnArchiveTakesAllResults) {
  const CliResult top =
      Attend({"--shape", "1x1", "--weights", "top-k", "--top-k", "2", "--output", Path("t.npz")});
  EXPECT_EQ(top.exit_code, 0) << top.err;
  auto results = NpzReader::Open(Path("t.npz"), 1 << 20);
  ASSERT_THAT(results, IsOk());
  EXPECT_THAT(results->names(), ElementsAre("output", "weights", "weights_keys"));
  EXPECT_THAT(results->ReadTensor("output")->shape, ElementsAre(1, 1, 4));
  EXPECT_THAT(results->ReadTensor("weights")->values, ElementsAre(0.75f, 0.0f));
  EXPECT_THAT(std::get<std::vector<int32_t>>(results->ReadIds("weights_keys")->values), ElementsAre(5, -1));

  const CliResult summary = Attend({"--shape", "1x1", "--weights", "summary", "--output", Path("s.npz")});
  EXPECT_EQ(summary.exit_code, 0) << summary.err;
  results = NpzReader::Open(Path("s.npz"), 1 << 20);
  ASSERT_THAT(results, IsOk());
  EXPECT_THAT(results->names(), ElementsAre("output", "weights", "received_mass"));
  EXPECT_THAT(results->ReadTensor("received_mass")->values, ElementsAre(1.5f, 0.5f));
}

TEST_F(AttendCommandTest, ArchivesThatContradictTheFlagsAreRefused) {
  const std::string archive = HEADLIGHT_CLIENT_TESTDATA "/plain.npz";
  const auto make = [&](const std::string& name, const std::vector<std::string>& arrays) {
    NpzWriter writer(Path(name));
    for (const std::string& array : arrays)
      writer.Add(array, Tensor{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}});
    EXPECT_THAT(writer.Finish(), IsOk());
    return Path(name);
  };
  ASSERT_THAT(WriteNpyFile({.shape = {1, 1, 4}, .values = {1, 2, 3, 4}}, Path("key.npy")), IsOk());
  const std::string only_key = make("only_key.npz", {"key"}), odd = make("odd.npz", {"query", "querry"});
  const std::string ranked = make("ranked.npz", {"query", "seq_lens"});
  const struct {
    std::vector<std::string> words;
    std::string reason;
  } cases[] = {
      {{"--input", archive, "--key", Path("key.npy")},
       archive + ": key: got it from a file of its own too, wanted one of the two"},
      {{"--input", archive, "--seq-lens", "6"}, "--seq-lens and " + archive + " both say what seq_lens is"},
      {{"--input", archive, "--kv-shape", "1x3"}, "--kv-shape and " + archive + " both say what key is"},
      {{"--input", only_key}, only_key + ": got neither of query and token_ids, wanted one of them"},
      {{"--input", odd}, odd + ": got an array 'querry', wanted query, key, value, mask, token_ids,"},
      {{"--input", ranked}, ranked + ": seq_lens: dtype: got '<f4', wanted '<i4' or '<i8'"},
      {{"--shape", "1x1", "--key", archive}, archive + ": got an .npz archive, wanted a .npy file"},
      {{"--shape", "1x1", "--weights", "full", "--weights-output", "w.npz"}, "w.npz: wanted a .npy file;"},
  };
  for (const auto& [words, reason] : cases) {
    const CliResult result = Attend(words);
    EXPECT_EQ(result.exit_code, 2) << reason;
    EXPECT_THAT(result.err, HasSubstr(reason));
  }
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(AttendCommandTest, ArraysThatCouldNotBeSentAreNotRead) {
  const CliResult result =
      Attend({"--input", HEADLIGHT_CLIENT_TESTDATA "/plain.npz", "--max-message-bytes", "1"});
  EXPECT_EQ(result.exit_code, 1);  // small arrays are for the server to judge: their headers are allowed for
  NpzWriter archive(Path("large.npz"));
  archive.Add("query", Tensor{.shape = {1, 50'000, 4}, .values = std::vector<float>(200'000)});
  ASSERT_THAT(archive.Finish(), IsOk());
  const CliResult large = Attend({"--input", Path("large.npz"), "--max-message-bytes", "100"});
  EXPECT_EQ(large.exit_code, 2);
  EXPECT_THAT(large.err, HasSubstr("query.npy has 800128 bytes, wanted at most 524688"));
}

TEST_F(AttendCommandTest, DoublesAndBrainFloatsAreWorthANote) {
  std::ofstream(Path("wide.npy"), std::ios::binary)
      << FormatNpyHeader("<f8", {1, 1, 4}) << std::string(32, '\0');
  const CliResult result = Attend({"--input", Path("wide.npy"), "--dtype", "bf16", "--output-dtype", "bf16",
                                   "--output", Path("out.npz"), "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, IsEmpty());
  EXPECT_THAT(nlohmann::json::parse(result.out)["notes"],
              ElementsAre(Path("wide.npy") + ": f64 was rounded to f32",
                          Path("out.npz") + ": bf16, which NumPy has not, is written as f32, exactly"));
}

// The fake server echoes the query as it came.
TEST_F(AttendCommandTest, FilesOfNarrowRepliesAreOfATypeThatNumpyHas) {
  for (const auto& [dtype, stored] :
       std::vector<std::pair<std::string, std::string>>{{"f16", "<f2"}, {"bf16", "<f4"}, {"f32", "<f4"}}) {
    const CliResult result = Attend(
        {"--shape", "1x2", "--dtype", dtype, "--output-dtype", dtype, "--output", Path("out.npy"), "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(nlohmann::json::parse(result.out)["output_dtype"], dtype);
    std::ifstream file(Path("out.npy"), std::ios::binary);
    const auto header = ReadNpyHeader(file);
    ASSERT_THAT(header, IsOk());
    EXPECT_EQ(header->dtype, stored);
    const auto output = ReadNpyTensorFile(Path("out.npy"));
    ASSERT_THAT(output, IsOk());
    ASSERT_THAT(output->values, SizeIs(8));
    EXPECT_NE(output->values[0], 0.0f);
  }
}

TEST_F(AttendCommandTest, WrongUsageIsTwoAndSendsNothing) {
  std::ofstream(Path("damaged.npy")) << "hello";
  const struct {
    std::vector<std::string> words;
    std::string reason;
  } cases[] = {
      {{}, "headlight: INVALID_ARGUMENT: nothing says what the query is, wanted --shape or --seq-lens\n"},
      {{"--shape", "1x1", "--weights-output", "w.npy"},
       "headlight: INVALID_ARGUMENT: --weights-output wants --weights full, mean, top-k, summary or grid\n"},
      {{"--shape", "1x1", "--weights", "full", "--weights-keys-output", "k.npy"},
       "headlight: INVALID_ARGUMENT: --weights-keys-output wants --weights top-k\n"},
      {{"--shape", "1x1", "--weights", "full", "--received-output", "r.npy"},
       "headlight: INVALID_ARGUMENT: --received-output wants --weights summary\n"},
      {{"--shape", "1x1", "--weights", "top-k"},
       "headlight: INVALID_ARGUMENT: --weights top-k and --top-k want each other\n"},
      {{"--shape", "1x1", "--weights", "full", "--grid", "2x2"},
       "headlight: INVALID_ARGUMENT: --grid wants --weights grid: it says how many cells\n"},
      {{"--shape", "1x1", "--layers", "0,1"},
       "headlight: INVALID_ARGUMENT: --layers wants --weights: they say whose\n"},
      {{"--shape", "1x1", "--weights", "full", "--layer", "0", "--layers", "1"},
       "headlight: INVALID_ARGUMENT: --layer and --layers both say what the layer is\n"},
      {{"--shape", "1x1", "--heads", "0"},
       "headlight: INVALID_ARGUMENT: --heads and --queries want --weights: they say which\n"},
      {{"--shape", "1x1", "--input", Path("damaged.npy")},
       "headlight: INVALID_ARGUMENT: --input and --shape both say what the query is\n"},
      {{"--input", Path("missing.npy")},
       "headlight: NOT_FOUND: " + Path("missing.npy") + ": No such file or directory\n"},
      {{"--input", Path("damaged.npy")},
       "headlight: INVALID_ARGUMENT: " + Path("damaged.npy") +
           ": not a .npy file: its first bytes are others\n"},
      {{"--shape", "1x1000", "--max-message-bytes", "1000"},
       "headlight: INVALID_ARGUMENT: query: shape [1, 1000, 4] of f32 is over the limit of 1000 bytes a "
       "message "
       "(--max-message-bytes)\n"},
  };
  for (const auto& [words, reason] : cases) {
    const CliResult result = Attend(words);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.err, reason);
    EXPECT_THAT(result.out, IsEmpty());
  }
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(AttendCommandTest, FailuresAreOne) {
  const CliResult unknown = Attend({"--shape", "1x1", "--model", "none"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_EQ(unknown.err, "headlight: NOT_FOUND: model: got 'none', wanted demo or cross\n");

  const CliResult unwritable = Attend({"--shape", "1x1", "--output", Path("no/such/directory.npy")});
  EXPECT_EQ(unwritable.exit_code, 1);
  EXPECT_THAT(unwritable.err, StartsWith("headlight: UNAVAILABLE: " + Path("no/such/directory.npy")));
  EXPECT_THAT(unwritable.out, IsEmpty());

  FakeServer refusing([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "query: got rank 7, wanted 2 or 3");
  });
  const CliResult refused = RunHeadlight({"attend", "--server", refusing.target(), "--shape", "1x1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.err, "headlight: INVALID_ARGUMENT: query: got rank 7, wanted 2 or 3\n");
}

}  // namespace
}  // namespace headlight::client
