// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "client/files/npz.h"
#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"
#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::Count;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RunHeadlight;
using ::headlight::testing::XmlError;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr int64_t kFakeHeads = 2;  // of every model of the fake server

// Answers one dense sequence as a server does: weights that are all alike, 1 / keys.
grpc::Status UniformWeights(grpc::ServerContext& context, const v1::AttendRequest& request,
                            v1::AttendResponse& response) {
  v1::AttendRequest plain = request;
  plain.clear_weights();
  const grpc::Status status = FakeServer::Echo(context, plain, response);
  const v1::WeightsOptions& options = request.weights();
  const int64_t heads = options.heads_size() > 0 ? options.heads_size() : kFakeHeads;
  const int64_t len = request.has_token_ids() ? request.token_ids().shape(1) : request.query().shape(1);
  const int64_t appended = request.model() == "cross" ? 2 : 0;
  const int64_t keys = (request.has_key() ? request.key().shape(1) : len) + appended;
  const int64_t queries = options.query_end() > 0 ? options.query_end() - options.query_begin() : len;
  const bool summary = options.mode() == v1::WEIGHTS_MODE_SUMMARY;
  std::vector<int64_t> shape =
      summary ? std::vector<int64_t>{1, heads, 6} : std::vector<int64_t>{1, heads, queries, keys};
  if (options.mode() == v1::WEIGHTS_MODE_GRID) {
    shape = {1, options.layers_size(), heads, std::min(options.grid_rows(), queries),
             std::min(options.grid_cols(), keys)};
  }
  size_t elements = 1;
  for (int64_t dim : shape) elements *= static_cast<size_t>(dim);
  const std::vector<float> values(elements, summary ? 0.5f : 1.0f / static_cast<float>(keys));
  response.mutable_weights()->set_dtype(v1::DTYPE_F32);
  response.mutable_weights()->mutable_shape()->Assign(shape.begin(), shape.end());
  response.add_payloads(values.data(), values.size() * sizeof(float));
  if (summary) {
    const std::vector<float> received(static_cast<size_t>(heads * keys), 1.0f);
    response.mutable_received_mass()->set_dtype(v1::DTYPE_F32);
    for (int64_t dim : {int64_t{1}, heads, keys}) response.mutable_received_mass()->add_shape(dim);
    response.add_payloads(received.data(), received.size() * sizeof(float));
  }
  return status;
}

class HeatmapCommandTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string PathOf(const std::string& name) const { return (folder_ / name).string(); }

  std::string WriteFile(const std::string& name, const std::string& text) const {
    std::ofstream(PathOf(name), std::ios::binary) << text;
    return PathOf(name);
  }

  static std::string ReadFile(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }

  // `headlight heatmap` against the fake server.
  CliResult Heatmap(std::vector<std::string> words) {
    words.insert(words.begin(), {"heatmap", "--server", server_.target()});
    return RunHeadlight(words);
  }

  FakeServer server_{UniformWeights};

 private:
  const std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("headlight_heatmap_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(HeatmapCommandTest, AsksForEachLayerAndDrawsAllOfThem) {
  const CliResult result = Heatmap({"--model", "encoder", "--shape", "1x5", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::vector<v1::AttendRequest> requests = server_.requests();
  ASSERT_THAT(requests, SizeIs(3));
  for (int layer = 0; layer < 3; ++layer) {
    const v1::WeightsOptions& weights = requests[static_cast<size_t>(layer)].weights();
    EXPECT_EQ(weights.mode(), v1::WEIGHTS_MODE_FULL);
    EXPECT_EQ(weights.layer(), layer);
    EXPECT_EQ(requests[static_cast<size_t>(layer)].payloads(0), requests[0].payloads(0));
  }
  EXPECT_THAT(XmlError(result.out), IsEmpty());
  EXPECT_EQ(Count(result.out, "<title>0.2\n"), 3 * 2 * 5 * 5);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("Attention of encoder, version 1"), HasSubstr("3 layers, 2 heads, 5 tokens")));
}

TEST_F(HeatmapCommandTest, TokensAreLabelsAndEscaped) {
  const std::string tokens = WriteFile("tokens.txt", "<s>\r\nfox & \"co\"\n\xff\n");
  const CliResult result = Heatmap({"--shape", "1x3", "--tokens", tokens, "--output", PathOf("maps.svg")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("wrote " + PathOf("maps.svg") + ": 1 layer, 2 heads, 3 tokens, "));
  const std::string svg = ReadFile(PathOf("maps.svg"));
  EXPECT_THAT(XmlError(svg), IsEmpty());
  EXPECT_THAT(svg, AllOf(HasSubstr(">&lt;s&gt;<"),
                         HasSubstr("query 1 fox &amp; &quot;co&quot;\nkey 2 \xef\xbf\xbd\n")));
}

TEST_F(HeatmapCommandTest, CrossAttentionHasLabelsOfItsOwnForKeys) {
  const CliResult result =
      Heatmap({"--model", "cross", "--shape", "1x2", "--kv-shape", "1x3", "--tokens",
               WriteFile("q", "a\nb\n"), "--key-tokens", WriteFile("k", "x\ny\nz"), "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("query 1 b\nkey 2 z\n"), HasSubstr("key 4 [appended]\n"),
                                HasSubstr("2 tokens to 3")));
}

TEST_F(HeatmapCommandTest, HeadsLayersAndQueriesAreChosen) {
  const CliResult result =
      Heatmap({"--model", "encoder", "--shape", "1x6", "--layers", "2", "--heads", "1", "--queries", "2:4",
               "--scale", "log", "--title", "Mine", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_EQ(server_.requests()[0].weights().layer(), 2);
  EXPECT_THAT(server_.requests()[0].weights().heads(), ElementsAre(1));
  EXPECT_EQ(Count(result.out, "\nquery "), 2 * 6);
  EXPECT_THAT(result.out, AllOf(HasSubstr("query 2\nkey 0\nlayer 2, head 1"), HasSubstr("queries 2 to 3"),
                                HasSubstr("log scale"), HasSubstr(">Mine<"), Not(HasSubstr("query 4"))));
}

TEST_F(HeatmapCommandTest, ManyWeightsBecomeAPage) {
  const CliResult result = Heatmap({"--shape", "1x100", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("<!DOCTYPE html>"));
  const CliResult svg = Heatmap({"--shape", "1x100", "--format", "svg", "--output", "-"});
  EXPECT_EQ(Count(svg.out, "\nquery "), 2 * 100 * 100);
}

TEST_F(HeatmapCommandTest, TheNameOfTheFileDecidesTheFormat) {
  EXPECT_EQ(Heatmap({"--shape", "1x3", "--output", PathOf("maps.html")}).exit_code, 0);
  EXPECT_THAT(ReadFile(PathOf("maps.html")), StartsWith("<!DOCTYPE html>"));
  EXPECT_EQ(Heatmap({"--shape", "1x3", "--format", "html", "--output", PathOf("maps")}).exit_code, 0);
  EXPECT_THAT(ReadFile(PathOf("maps")), StartsWith("<!DOCTYPE html>"));
}

TEST_F(HeatmapCommandTest, SummaryDrawsThreeStatistics) {
  const CliResult result = Heatmap({"--model", "encoder", "--shape", "1x5", "--summary", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(3));
  EXPECT_EQ(server_.requests()[0].weights().mode(), v1::WEIGHTS_MODE_SUMMARY);
  EXPECT_THAT(XmlError(result.out), IsEmpty());
  EXPECT_THAT(result.out, AllOf(HasSubstr("entropy 0.5 nats"), HasSubstr("distance 0.5 tokens"),
                                HasSubstr("first token 0.5 share")));
}

TEST_F(HeatmapCommandTest, AGridIsDrawnOfAllLayersInOneRequest) {
  const CliResult result = Heatmap({"--model", "encoder", "--shape", "1x100", "--grid", "4x8", "--layers",
                                    "2,0", "--queries", "10:90", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_THAT(server_.requests(), SizeIs(1));
  const v1::WeightsOptions weights = server_.requests()[0].weights();
  EXPECT_EQ(weights.mode(), v1::WEIGHTS_MODE_GRID);
  EXPECT_THAT(weights.layers(), ElementsAre(2, 0));
  EXPECT_EQ(weights.grid_rows(), 4);
  EXPECT_EQ(weights.grid_cols(), 8);
  EXPECT_THAT(XmlError(result.out), IsEmpty());
  EXPECT_EQ(Count(result.out, "<title>0.01\n"), 2 * 2 * 4 * 8);
  EXPECT_THAT(result.out, AllOf(HasSubstr("query 30-49\nkey 12-24\nlayer 0, head 1"),
                                HasSubstr("means over 4 x 8 cells"), HasSubstr("mean attention weight")));
}

TEST_F(HeatmapCommandTest, OnlyTheSequenceThatIsDrawnIsSent) {
  for (const char* const what : {"--grid=2x2", "--summary", "--scale=log"}) {
    const CliResult result = Heatmap({"--seq-lens", "9,3,7", "--sequence", "1", what, "--output", "-"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("3 tokens, sequence 1 of 3"));
  }
  const std::vector<v1::AttendRequest> requests = server_.requests();
  ASSERT_THAT(requests, SizeIs(3));
  for (const v1::AttendRequest& request : requests) {
    EXPECT_THAT(request.query().shape(), ElementsAre(1, 3, 4));
    EXPECT_THAT(request.seq_lens(), IsEmpty());
    EXPECT_EQ(request.payloads(0).size(), 3 * 4 * sizeof(float));
  }
}

TEST_F(HeatmapCommandTest, CellsOfOneTokenAreCalledByIt) {
  const std::string tokens = WriteFile("tokens.txt", "the\nfox\njumps\n");
  const CliResult result = Heatmap({"--shape", "1x3", "--tokens", tokens, "--grid", "2x64", "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("query the\nkey jumps\n"), HasSubstr("query 1-2\nkey fox\n")));
}

TEST_F(HeatmapCommandTest, AGridDrawsSequencesOfAnyLength) {
  const CliResult result =
      Heatmap({"--shape", "1x3000", "--grid", "64x64", "--output", "-", "--format", "html"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\"0-45\",\"46-92\""));
}

TEST_F(HeatmapCommandTest, AnArchiveHoldsAllInputs) {
  const std::string archive = HEADLIGHT_CLIENT_TESTDATA "/deflated.npz";
  const CliResult result = Heatmap({"--input", archive, "--output", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "headlight: note: " + archive + ": key: f64 was rounded to f32\n");
  EXPECT_EQ(Count(result.out, "\nquery "), 2 * 6 * 3);
  ASSERT_THAT(server_.requests(), SizeIs(1));
  EXPECT_THAT(server_.requests()[0].key().shape(), ElementsAre(1, 3, 4));
  EXPECT_THAT(server_.requests()[0].seq_lens(), ElementsAre(6));
}

TEST_F(HeatmapCommandTest, AnArraysLimitIsWhatCouldBeSent) {
  NpzWriter large(PathOf("large.npz"));
  large.Add("query", Tensor{.shape = {1, 50'000, 4}, .values = std::vector<float>(200'000)});
  ASSERT_TRUE(large.Finish().ok());
  // Over --max-message-bytes as f32, not over it as f16.
  const CliResult fits = Heatmap({"--input", PathOf("large.npz"), "--dtype", "f16", "--heads", "0",
                                  "--queries", "0:1", "--max-message-bytes", "700000", "--output", "-"});
  EXPECT_EQ(fits.exit_code, 0) << fits.err;
  const CliResult too_large =
      Heatmap({"--input", PathOf("large.npz"), "--max-message-bytes", "100", "--output", "-"});
  EXPECT_EQ(too_large.exit_code, 2);
  EXPECT_THAT(too_large.err, HasSubstr("query.npy has 800128 bytes, wanted at most 524688"));
}

TEST_F(HeatmapCommandTest, WrongUsageIsTwoWithAReasonAndNothingIsAsked) {
  const std::string two = WriteFile("two.txt", "a\nb\n");
  const struct {
    std::vector<std::string> words;
    const char* reason;
  } cases[] = {
      {{"--output", "-"}, "nothing says what the query is"},
      {{"--input", HEADLIGHT_CLIENT_TESTDATA "/plain.npz", "--seq-lens", "6", "--output", "-"},
       "plain.npz both say what seq_lens is"},
      {{"--input", HEADLIGHT_CLIENT_TESTDATA "/plain.npz", "--kv-shape", "1x3", "--output", "-"},
       "plain.npz both say what key is"},
      {{"--shape", "1x3"}, "--output is required"},
      {{"--shape", "1x3", "--tokens", two, "--output", "-"}, "--tokens: got 2 lines, wanted 3"},
      {{"--shape", "1x2", "--key-tokens", two, "--output", "-"}, "--key-tokens wants keys of their own"},
      {{"--shape", "1x2", "--tokens", PathOf("none"), "--output", "-"}, "none: No such file"},
      {{"--shape", "1x2", "--sequence", "1", "--output", "-"}, "--sequence: got 1"},
      {{"--shape", "1x2", "--layers", "1", "--output", "-"}, "--layers: got 1"},
      {{"--shape", "1x2", "--layers", "x", "--output", "-"}, "got 'x', wanted all"},
      {{"--shape", "1x2", "--layers", "0,0", "--grid", "2x2", "--output", "-"},
       "each once: 0 is there again"},
      {{"--shape", "1x2", "--queries", "2:3", "--output", "-"}, "--queries: got a first query of 2"},
      {{"--shape", "1x2", "--format", "png", "--output", "-"}, "got 'png', wanted auto, svg or html"},
      {{"--shape", "1x2", "--scale", "cubic", "--output", "-"}, "got 'cubic', wanted linear or log"},
      {{"--shape", "1x2", "--weights", "mean", "--output", "-"}, "--weights"},
      {{"--shape", "1x2", "--summary", "--tokens", two, "--output", "-"}, "which --summary does not draw"},
      {{"--shape", "1x2", "--summary", "--output", "a.html"}, "--summary draws SVG only"},
      {{"--shape", "1x2", "--summary", "--grid", "2x2", "--output", "-"}, "draw different things"},
      {{"--shape", "1x2", "--grid", "65x2", "--output", "-"},
       "wanted rows and columns of cells, 1x1 to 64x64"},
      {{"--shape", "1x3000", "--output", "-"}, ", or --grid 64x64"},
      {{"--shape", "1x3000", "--output", "-"}, "18000000 weights, wanted at most 16777216"},
      {{"--shape", "1x400", "--output", "a.svg"}, "320000 weights, wanted at most 262144"},
  };
  for (const auto& [words, reason] : cases) {
    const CliResult result = Heatmap(words);
    EXPECT_EQ(result.exit_code, 2) << reason;
    EXPECT_THAT(result.out + result.err, HasSubstr(reason));
  }
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(HeatmapCommandTest, FailuresAreOne) {
  EXPECT_THAT(Heatmap({"--shape", "1x2", "--model", "none", "--output", "-"}).err, HasSubstr("NOT_FOUND"));
  const CliResult result = Heatmap({"--shape", "1x2", "--output", PathOf("no/such/folder.svg")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("folder.svg: cannot be written: No such file or directory\n"));
}

// The default handler of the fake server says nothing of the shape that was asked for.
TEST(HeatmapReplyTest, RepliesOfAnotherShapeAreAFailure) {
  FakeServer server;
  const CliResult result =
      RunHeadlight({"heatmap", "--server", server.target(), "--shape", "1x3", "--output", "-"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(
      result.err,
      HasSubstr("INTERNAL: the server's reply has weights [1, 1, 1, 2], wanted at least [1, 2, 3, 3]"));
}

// It knows the field as little as a server from before it.
TEST(HeatmapReplyTest, AServerThatDoesNotKnowLayersIsNamedAsOlder) {
  FakeServer server;
  const CliResult result = RunHeadlight({"heatmap", "--server", server.target(), "--model", "encoder",
                                         "--shape", "1x3", "--grid", "2x2", "--output", "-"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("UNIMPLEMENTED: weights.layers: got weights ["),
                                HasSubstr("wanted 3 layers"), HasSubstr("the server is older")));
}

}  // namespace
}  // namespace headlight::client
