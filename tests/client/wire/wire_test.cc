// SPDX-License-Identifier: Apache-2.0
#include "client/wire/wire.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "tests/testing/slow_crc32c.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(slice.begin(), slice.end());
  return bytes;
}

grpc::ByteBuffer OneSlice(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// Every byte a slice of its own, as if the network had cut the message everywhere.
grpc::ByteBuffer ManySlices(const std::string& bytes) {
  std::vector<grpc::Slice> slices;
  for (const char& byte : bytes) slices.emplace_back(&byte, 1);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Bytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void Describe(const Shape& shape, v1::TensorSpec* spec) {
  spec->set_dtype(v1::DTYPE_F32);
  spec->mutable_shape()->Assign(shape.begin(), shape.end());
}

v1::AttendResponse GoodReply() {
  v1::AttendResponse reply;
  reply.set_model("demo");
  reply.set_model_version("3");
  reply.set_request_id("r-1");
  Describe({1, 2}, reply.mutable_output());
  Describe({1, 1, 3}, reply.mutable_weights());
  reply.mutable_time_budget()->set_queue_us(17);
  reply.mutable_time_budget()->set_kernel("brgemm");
  reply.add_payloads(Bytes({1, 2}));
  reply.add_payloads(Bytes({3, 4, 5}));
  return reply;
}

// An output and weights in 16 bits.
v1::AttendResponse TopKReply() {
  v1::AttendResponse reply;
  Describe({1, 1}, reply.mutable_output());
  Describe({3}, reply.mutable_weights());
  Describe({3}, reply.mutable_weights_keys());
  reply.mutable_output()->set_dtype(v1::DTYPE_F16);
  reply.mutable_weights()->set_dtype(v1::DTYPE_BF16);
  reply.mutable_weights_keys()->set_dtype(v1::DTYPE_I32);
  reply.add_payloads(std::string("\x00\xc0", 2));
  reply.add_payloads(std::string("\x80\x3f\x00\x3f\x00\x00", 6));
  reply.add_payloads(std::string("\x07\x00\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff", 12));
  return reply;
}

v1::AttendResponse SummaryReply() {
  v1::AttendResponse reply;
  Describe({1}, reply.mutable_output());
  Describe({2}, reply.mutable_weights());
  Describe({1}, reply.mutable_received_mass());
  reply.add_payloads(Bytes({1}));
  reply.add_payloads(Bytes({2, 3}));
  reply.add_payloads(Bytes({4}));
  return reply;
}

TEST(EncodeRequestTest, ProtobufReadsEveryField) {
  const Tensor query{.shape = {1, 2, 2}, .values = {1, 2, 3, 4}};
  const Tensor key{.shape = {1, 1, 2}, .values = {5, 6}};
  const Tensor value{.shape = {1, 1, 1}, .values = {7}};
  const Mask mask{.shape = {1, 1, 2, 1}, .values = std::vector<uint8_t>{1, 0}};
  const auto request = EncodeRequest({.model = "m",
                                      .model_version = "2",
                                      .request_id = "id",
                                      .query = query.View(),
                                      .key = key.View(),
                                      .value = value.View(),
                                      .mask = mask.View(),
                                      .seq_lens = {2},
                                      .kv_seq_lens = {1},
                                      .causal = true,
                                      .weights = v1::WEIGHTS_MODE_MEAN});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_EQ(parsed.model(), "m");
  EXPECT_EQ(parsed.model_version(), "2");
  EXPECT_EQ(parsed.request_id(), "id");
  EXPECT_EQ(parsed.query().dtype(), v1::DTYPE_F32);
  EXPECT_THAT(parsed.query().shape(), ElementsAre(1, 2, 2));
  EXPECT_THAT(parsed.key().shape(), ElementsAre(1, 1, 2));
  EXPECT_THAT(parsed.value().shape(), ElementsAre(1, 1, 1));
  EXPECT_EQ(parsed.mask().dtype(), v1::DTYPE_BOOL);
  EXPECT_THAT(parsed.seq_lens(), ElementsAre(2));
  EXPECT_THAT(parsed.kv_seq_lens(), ElementsAre(1));
  EXPECT_TRUE(parsed.causal());
  EXPECT_EQ(parsed.weights().mode(), v1::WEIGHTS_MODE_MEAN);
  EXPECT_THAT(parsed.payloads(),
              ElementsAre(Bytes({1, 2, 3, 4}), Bytes({5, 6}), Bytes({7}), std::string("\x01\x00", 2)));
}

TEST(EncodeRequestTest, WindowsAndWeightsOptionsAreFields) {
  const Tensor query{.shape = {1, 1}, .values = {1}};
  const auto request = EncodeRequest({.query = query.View(),
                                      .window_left = 0,
                                      .window_right = 5,
                                      .weights = v1::WEIGHTS_MODE_TOP_K,
                                      .top_k = 3,
                                      .heads = {2, 0},
                                      .query_begin = 1,
                                      .query_end = 4,
                                      .output_dtype = v1::DTYPE_BF16});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_TRUE(parsed.has_window_left());
  EXPECT_EQ(parsed.window_left(), 0);
  EXPECT_EQ(parsed.window_right(), 5);
  EXPECT_EQ(parsed.weights().mode(), v1::WEIGHTS_MODE_TOP_K);
  EXPECT_EQ(parsed.weights().top_k(), 3);
  EXPECT_THAT(parsed.weights().heads(), ElementsAre(2, 0));
  EXPECT_EQ(parsed.weights().query_begin(), 1);
  EXPECT_EQ(parsed.weights().query_end(), 4);
  EXPECT_EQ(parsed.output_dtype(), v1::DTYPE_BF16);
}

TEST(EncodeRequestTest, GridsAndLayersAreAskedFor) {
  const Tensor query{.shape = {1, 1}, .values = {1.0f}};
  const auto request = EncodeRequest({.query = query.View(),
                                      .weights = v1::WEIGHTS_MODE_GRID,
                                      .layers = {2, 0},
                                      .grid_rows = 8,
                                      .grid_cols = 16});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_EQ(parsed.weights().mode(), v1::WEIGHTS_MODE_GRID);
  EXPECT_FALSE(parsed.weights().has_layer());
  EXPECT_THAT(parsed.weights().layers(), ElementsAre(2, 0));
  EXPECT_EQ(parsed.weights().grid_rows(), 8);
  EXPECT_EQ(parsed.weights().grid_cols(), 16);
}

TEST(EncodeRequestTest, IdsTravelInTheWidthTheyHave) {
  const Ids narrow{.shape = {1, 2}, .values = std::vector<int32_t>{1, 2}};
  const Ids wide{.shape = {1, 2}, .values = std::vector<int64_t>{3, int64_t{1} << 40}};
  const Mask mask{.shape = {1}, .values = std::vector<uint8_t>{1}};
  const auto request = EncodeRequest({.token_ids = wide.View(),
                                      .token_types = narrow.View(),
                                      .mask = mask.View(),
                                      .weights = v1::WEIGHTS_MODE_FULL,
                                      .layer = 0,
                                      .pooling = v1::POOLING_MODE_MEAN});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_FALSE(parsed.has_query());
  EXPECT_EQ(parsed.token_ids().dtype(), v1::DTYPE_I64);
  EXPECT_THAT(parsed.token_ids().shape(), ElementsAre(1, 2));
  EXPECT_EQ(parsed.token_types().dtype(), v1::DTYPE_I32);
  EXPECT_TRUE(parsed.weights().has_layer());
  EXPECT_EQ(parsed.weights().layer(), 0);
  EXPECT_EQ(parsed.pooling(), v1::POOLING_MODE_MEAN);
  // In the order of the fields' numbers: mask, token_ids, token_types.
  EXPECT_THAT(parsed.payloads(),
              ElementsAre(std::string("\x01"), std::string("\3\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 16),
                          std::string("\1\0\0\0\2\0\0\0", 8)));
  EXPECT_THAT(EncodeRequest({.token_ids = IdsView{.shape = {3}, .values = std::span<const int32_t>()}}),
              StatusIs(absl::StatusCode::kInvalidArgument, "token_ids: shape [3] wants 3 values, got 0"));
}

TEST(EncodeRequestTest, NumbersTravelInTheTypeAskedForAndBoolsAsTheyAre) {
  const Tensor tensor{.shape = {1, 2}, .values = {1.0f, -2.0f}};
  const Mask allowed{.shape = {2}, .values = std::vector<uint8_t>{1, 0}};
  const Mask added{.shape = {1}, .values = std::vector<float>{-1}};
  for (const auto& [dtype, wanted, minus_one] :
       {std::tuple(v1::DTYPE_F16, std::string("\x00\x3c\x00\xc0", 4), std::string("\x00\xbc", 2)),
        std::tuple(v1::DTYPE_BF16, std::string("\x80\x3f\x00\xc0", 4), std::string("\x80\xbf", 2))}) {
    for (const Mask& mask : {allowed, added}) {
      const auto request = EncodeRequest({.query = tensor.View(),
                                          .key = tensor.View(),
                                          .value = tensor.View(),
                                          .mask = mask.View(),
                                          .dtype = dtype});
      ASSERT_THAT(request, IsOk());
      v1::AttendRequest parsed;
      ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
      EXPECT_EQ(parsed.query().dtype(), dtype);
      EXPECT_EQ(parsed.key().dtype(), dtype);
      EXPECT_EQ(parsed.value().dtype(), dtype);
      const bool is_added = std::holds_alternative<std::vector<float>>(mask.values);
      EXPECT_EQ(parsed.mask().dtype(), is_added ? dtype : v1::DTYPE_BOOL);
      EXPECT_THAT(parsed.payloads(),
                  ElementsAre(wanted, wanted, wanted, is_added ? minus_one : std::string("\x01\x00", 2)));
    }
  }
}

TEST(EncodeRequestTest, RefusesATypeThatIsNoNumber) {
  const Tensor query{.shape = {1, 1}, .values = {1}};
  EXPECT_THAT(EncodeRequest({.query = query.View(), .dtype = v1::DTYPE_BOOL}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "dtype: got 4, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16"));
}

TEST(EncodeRequestTest, AnAdditiveMaskIsF32) {
  const Tensor query{.shape = {1, 1}, .values = {1}};
  const Mask mask{.shape = {1}, .values = std::vector<float>{-1}};
  const auto request = EncodeRequest({.query = query.View(), .mask = mask.View()});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_EQ(parsed.mask().dtype(), v1::DTYPE_F32);
  EXPECT_EQ(parsed.payloads(1), Bytes({-1}));
}

TEST(EncodeRequestTest, LeavesOutWhatIsNotThere) {
  const Tensor query{.shape = {1, 1}, .values = {1}};
  const auto request = EncodeRequest({.query = query.View()});
  ASSERT_THAT(request, IsOk());
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_FALSE(parsed.has_key() || parsed.has_value() || parsed.has_mask() || parsed.has_weights());
  EXPECT_EQ(parsed.payloads_size(), 1);
}

TEST(EncodeRequestTest, DoesNotReferToTheCallersMemory) {
  Tensor query{.shape = {300},
               .values = std::vector<float>(300, 1.0f)};  // longer than gRPC keeps inside a slice
  const auto request = EncodeRequest({.query = query.View()});
  ASSERT_THAT(request, IsOk());
  query.values.assign(300, 2.0f);
  v1::AttendRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Flatten(*request)));
  EXPECT_EQ(parsed.payloads(0), Bytes(std::vector<float>(300, 1.0f)));
}

TEST(EncodeRequestTest, RefusesAShapeThatItsValuesDoNotFill) {
  const std::vector<float> values(5);
  const Tensor good{.shape = {1}, .values = {1}};
  const TensorView bad{.shape = {2, 3}, .values = values};
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(EncodeRequest({.query = bad}), StatusIs(kInvalid, "query: shape [2, 3] wants 6 values, got 5"));
  EXPECT_THAT(EncodeRequest({.query = good.View(), .key = bad}), StatusIs(kInvalid, StartsWith("key: ")));
  EXPECT_THAT(EncodeRequest({.query = good.View(), .key = good.View(), .value = bad}),
              StatusIs(kInvalid, StartsWith("value: ")));
  EXPECT_THAT(
      EncodeRequest({.query = good.View(), .mask = MaskView{.shape = {6}, .values = std::span(values)}}),
      StatusIs(kInvalid, StartsWith("mask: ")));
  EXPECT_THAT(
      EncodeRequest({.query = TensorView{.shape = {-1}, .values = values}}),
      StatusIs(kInvalid, "query: shape [-1] wants no negative dimension and at most 2^63 values, got 5"));
}

TEST(DecodeReplyTest, ReadsEveryFieldHoweverTheMessageIsSliced) {
  const std::string bytes = GoodReply().SerializeAsString();
  for (const grpc::ByteBuffer& buffer : {OneSlice(bytes), ManySlices(bytes)}) {
    const auto reply = DecodeReply(buffer);
    ASSERT_THAT(reply, IsOk());
    EXPECT_EQ(reply->model, "demo");
    EXPECT_EQ(reply->model_version, "3");
    EXPECT_EQ(reply->request_id, "r-1");
    EXPECT_THAT(reply->output.shape, ElementsAre(1, 2));
    EXPECT_THAT(reply->output.values, ElementsAre(1, 2));
    ASSERT_TRUE(reply->weights.has_value());
    EXPECT_THAT(reply->weights->shape, ElementsAre(1, 1, 3));
    EXPECT_THAT(reply->weights->values, ElementsAre(3, 4, 5));
    EXPECT_EQ(reply->time_budget.queue_us(), 17);
    EXPECT_EQ(reply->time_budget.kernel(), "brgemm");
  }
}

TEST(DecodeReplyTest, NarrowNumbersBecomeF32AndKeysStayWhole) {
  const std::string bytes = TopKReply().SerializeAsString();
  for (const grpc::ByteBuffer& buffer : {OneSlice(bytes), ManySlices(bytes)}) {
    const auto reply = DecodeReply(buffer);
    ASSERT_THAT(reply, IsOk());
    EXPECT_EQ(reply->output_dtype, v1::DTYPE_F16);
    EXPECT_THAT(reply->output.values, ElementsAre(-2.0f));
    ASSERT_TRUE(reply->weights && reply->weights_keys);
    EXPECT_THAT(reply->weights->values, ElementsAre(1.0f, 0.5f, 0.0f));
    EXPECT_THAT(reply->weights_keys->shape, ElementsAre(3));
    EXPECT_THAT(reply->weights_keys->values, ElementsAre(7, 256, -1));
    EXPECT_FALSE(reply->received_mass);
  }
}

TEST(DecodeReplyTest, ASummaryBringsWhatEachKeyReceives) {
  const auto reply = DecodeReply(OneSlice(SummaryReply().SerializeAsString()));
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->output_dtype, v1::DTYPE_F32);
  EXPECT_THAT(reply->weights->values, ElementsAre(2, 3));
  ASSERT_TRUE(reply->received_mass);
  EXPECT_THAT(reply->received_mass->values, ElementsAre(4));
  EXPECT_FALSE(reply->weights_keys);
}

// Pooled bytes, sparse weights and bits of token vectors.
v1::AttendResponse ReplyOfOutputs() {
  v1::AttendResponse reply;
  const auto add = [&](v1::OutputKind kind, v1::DType dtype, const std::vector<int64_t>& shape,
                       const std::string& payload) {
    v1::OutputTensor& output = *reply.add_outputs();
    output.set_kind(kind);
    output.mutable_values()->set_dtype(dtype);
    output.mutable_values()->mutable_shape()->Assign(shape.begin(), shape.end());
    reply.add_payloads(payload);
    return &output;
  };
  v1::OutputTensor* output =
      add(v1::OUTPUT_KIND_POOLED, v1::DTYPE_I8, {2, 2}, std::string("\x7f\x81\x00\x02", 4));
  output->mutable_scale()->set_dtype(v1::DTYPE_F32);
  output->mutable_scale()->add_shape(2);
  reply.add_payloads(Bytes({0.5f, 2.0f}));
  output = add(v1::OUTPUT_KIND_SPARSE, v1::DTYPE_F32, {3}, Bytes({1, 2, 3}));
  output->mutable_indices()->set_dtype(v1::DTYPE_I32);
  output->mutable_indices()->add_shape(3);
  reply.add_payloads(std::string("\x05\0\0\0\x09\0\0\0\x01\0\0\0", 12));
  for (const int64_t len : {2, 1}) output->add_lens(len);
  output = add(v1::OUTPUT_KIND_TOKEN_VECTORS, v1::DTYPE_BITS, {1, 8}, "\xa1");
  output->add_lens(1);
  output->add_lens(0);
  return reply;
}

TEST(DecodeReplyTest, SeveralOutputsComeInTheirOrder) {
  const absl::StatusOr<AttendReply> reply = DecodeReply(OneSlice(ReplyOfOutputs().SerializeAsString()));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_TRUE(reply->output.values.empty());
  ASSERT_EQ(reply->outputs.size(), 3u);
  EXPECT_EQ(reply->outputs[0].kind, v1::OUTPUT_KIND_POOLED);
  EXPECT_THAT(reply->outputs[0].values.values, ElementsAre(63.5f, -63.5f, 0.0f, 4.0f));
  EXPECT_THAT(reply->outputs[0].packed, ElementsAre(0x7f, 0x81, 0, 2));
  EXPECT_THAT(reply->outputs[0].scale, ElementsAre(0.5f, 2.0f));
  EXPECT_THAT(reply->outputs[1].values.values, ElementsAre(1, 2, 3));
  EXPECT_THAT(reply->outputs[1].indices, ElementsAre(5, 9, 1));
  EXPECT_THAT(reply->outputs[1].lens, ElementsAre(2, 1));
  EXPECT_THAT(reply->outputs[2].values.values, ElementsAre(1, 0, 1, 0, 0, 0, 0, 1));
  EXPECT_THAT(reply->outputs[2].packed, ElementsAre(0xa1));
}

v1::AttendResponse WithChecksums(v1::AttendResponse reply) {
  for (const std::string& payload : reply.payloads()) {
    reply.add_payload_crc32c(::headlight::testing::SlowCrc32c(payload));
  }
  return reply;
}

std::vector<std::string> FieldsWithChecksums(const AttendReply& reply) {
  std::vector<std::string> fields;
  for (const PayloadChecksum& checksum : reply.checksums) fields.push_back(checksum.field);
  return fields;
}

TEST(DecodeReplyTest, EveryPayloadIsComparedWithItsChecksum) {
  for (const v1::AttendResponse& good : {WithChecksums(GoodReply()), WithChecksums(TopKReply()),
                                         WithChecksums(SummaryReply()), WithChecksums(ReplyOfOutputs())}) {
    const auto reply = DecodeReply(ManySlices(good.SerializeAsString()));
    ASSERT_THAT(reply, IsOk());
    const std::vector<std::string> fields = FieldsWithChecksums(*reply);
    ASSERT_EQ(fields.size(), static_cast<size_t>(good.payloads_size()));
    for (int i = 0; i < good.payloads_size(); ++i) {
      EXPECT_EQ(reply->checksums[static_cast<size_t>(i)].crc32c, good.payload_crc32c(i));
      v1::AttendResponse damaged = good;
      damaged.mutable_payloads(i)->back() ^= 1;
      const std::string bytes = damaged.SerializeAsString();
      EXPECT_THAT(
          DecodeReply(OneSlice(bytes)),
          StatusIs(absl::StatusCode::kDataLoss, HasSubstr("the server's reply was damaged on its way: " +
                                                          fields[static_cast<size_t>(i)] + " has CRC-32C ")));
      const auto ignored = DecodeReply(OneSlice(bytes), Checksums::kIgnore);
      ASSERT_THAT(ignored, IsOk());
      EXPECT_EQ(ignored->checksums[static_cast<size_t>(i)].crc32c, good.payload_crc32c(i));
    }
  }
}

TEST(DecodeReplyTest, ChecksumsBearTheNamesOfTheirFields) {
  EXPECT_THAT(FieldsWithChecksums(*DecodeReply(OneSlice(WithChecksums(TopKReply()).SerializeAsString()))),
              ElementsAre("output", "weights", "weights_keys"));
  EXPECT_THAT(
      FieldsWithChecksums(*DecodeReply(OneSlice(WithChecksums(ReplyOfOutputs()).SerializeAsString()))),
      ElementsAre("outputs[0].values", "outputs[0].scale", "outputs[1].values", "outputs[1].indices",
                  "outputs[2].values"));
}

TEST(DecodeReplyTest, AServerMayTellNoChecksumsButNotTooFew) {
  EXPECT_TRUE(DecodeReply(OneSlice(GoodReply().SerializeAsString()))->checksums.empty());
  v1::AttendResponse few = GoodReply();
  few.add_payload_crc32c(1);
  EXPECT_THAT(DecodeReply(OneSlice(few.SerializeAsString())),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("it has 1 checksums, wanted 2")));
}

TEST(DecodeReplyTest, OutputsThatContradictThemselvesAreRefused) {
  const auto refused = [](const std::function<void(v1::AttendResponse&)>& change) {
    v1::AttendResponse reply = ReplyOfOutputs();
    change(reply);
    return DecodeReply(OneSlice(reply.SerializeAsString())).status().code() == absl::StatusCode::kInternal;
  };
  EXPECT_FALSE(refused([](v1::AttendResponse&) {}));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) { reply.mutable_outputs(0)->clear_scale(); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) {
    reply.mutable_outputs(0)->mutable_scale()->set_shape(0, 1);
    reply.set_payloads(1, Bytes({1}));
  }));
  EXPECT_TRUE(
      refused([](v1::AttendResponse& reply) { reply.mutable_outputs(0)->mutable_values()->clear_shape(); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) { reply.mutable_outputs(1)->set_lens(0, 3); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) { reply.mutable_outputs(1)->set_lens(0, -1); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) {
    reply.mutable_outputs(1)->mutable_indices()->set_dtype(v1::DTYPE_F32);
  }));
  EXPECT_TRUE(refused(
      [](v1::AttendResponse& reply) { reply.mutable_outputs(2)->mutable_values()->set_shape(1, 4); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) { reply.set_payloads(4, "ab"); }));
  EXPECT_TRUE(refused([](v1::AttendResponse& reply) { reply.clear_outputs(); }));
}

TEST(DecodeReplyTest, EveryWrongByteOfOutputsIsAnswered) {
  const std::string bytes = ReplyOfOutputs().SerializeAsString();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const char change : {'\x01', '\x80', '\xff'}) {
      std::string wrong = bytes;
      wrong[i] = static_cast<char>(wrong[i] ^ change);
      const absl::Status status = DecodeReply(OneSlice(wrong)).status();
      EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInternal) << i;
    }
  }
}

TEST(EncodeRequestTest, OutputsTravel) {
  AttendCall call{.model = "encoder"};
  call.outputs.emplace_back().set_kind(v1::OUTPUT_KIND_SPARSE);
  call.outputs.back().set_top_k(7);
  const absl::StatusOr<v1::AttendRequest> request = DescribeRequest(call);
  ASSERT_TRUE(request.ok());
  ASSERT_EQ(request->outputs_size(), 1);
  EXPECT_EQ(request->outputs(0).kind(), v1::OUTPUT_KIND_SPARSE);
  EXPECT_EQ(request->outputs(0).top_k(), 7);
}

TEST(DecodeReplyTest, FieldsMayComeInAnyOrder) {
  v1::AttendResponse payloads, rest = GoodReply();
  payloads.mutable_payloads()->Swap(rest.mutable_payloads());
  const auto reply = DecodeReply(OneSlice(payloads.SerializeAsString() + rest.SerializeAsString()));
  ASSERT_THAT(reply, IsOk());
  EXPECT_THAT(reply->output.values, ElementsAre(1, 2));
  EXPECT_THAT(reply->weights->values, ElementsAre(3, 4, 5));
}

TEST(DecodeReplyTest, FieldsOfLaterVersionsAreIgnored) {
  const std::string unknown =
      std::string("\xa0\x06\x01", 3) +                               // field 100, varint
      std::string("\xa9\x06\x01\x02\x03\x04\x05\x06\x07\x08", 10) +  // field 101, 8 bytes
      std::string("\xb2\x06\x02hi", 5) +                             // field 102, a string
      std::string("\xbd\x06\x01\x02\x03\x04", 6);                    // field 103, 4 bytes
  EXPECT_THAT(DecodeReply(OneSlice(unknown + GoodReply().SerializeAsString())), IsOk());
}

TEST(DecodeReplyTest, EveryTruncationIsRefused) {
  const std::string bytes = GoodReply().SerializeAsString();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeReply(OneSlice(bytes.substr(0, size))),
                StatusIs(absl::StatusCode::kInternal, StartsWith("the server's reply is malformed: ")))
        << size;
  }
}

TEST(DecodeReplyTest, EverySingleWrongByteIsAnswered) {
  const google::protobuf::LogSilencer silencer;  // it reports every broken string
  const std::string bytes = GoodReply().SerializeAsString();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int wrong = 0; wrong < 256; ++wrong) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(wrong);
      const auto reply = DecodeReply(OneSlice(changed));  // the sanitizers look on
      if (reply.ok()) {
        EXPECT_EQ(reply->output.values.size(), size_t(*NumElements(reply->output.shape)));
      }
    }
  }
}

TEST(DecodeReplyTest, APayloadLongerThanTheMessageTakesNoMemory) {
  // Field 15 claims 2^31 - 1 bytes and has three.
  EXPECT_THAT(DecodeReply(OneSlice("\x7a\xff\xff\xff\xff\x07"
                                   "abc")),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("it ends within a field")));
}

void ExpectMalformed(const v1::AttendResponse& reply, const std::string& what) {
  const grpc::ByteBuffer bytes = OneSlice(reply.SerializeAsString());
  const auto is_malformed = StatusIs(absl::StatusCode::kInternal, "the server's reply is malformed: " + what);
  EXPECT_THAT(DecodeReply(bytes), is_malformed);
}

TEST(DecodeReplyTest, RefusesPayloadsThatDoNotMatchTheirDescription) {
  v1::AttendResponse reply = GoodReply();
  reply.clear_output();
  ExpectMalformed(reply, "it has no output");

  reply = GoodReply();
  reply.mutable_payloads()->RemoveLast();
  ExpectMalformed(reply, "it has 1 payloads, wanted 2");

  reply = GoodReply();
  reply.clear_weights();
  ExpectMalformed(reply, "it has 2 payloads, wanted 1");

  reply = GoodReply();
  reply.set_payloads(0, "1234567");
  ExpectMalformed(reply, "output [1, 2] came with 7 bytes");

  reply = GoodReply();
  reply.mutable_weights()->set_shape(2, 4);
  ExpectMalformed(reply, "weights [1, 1, 4] came with 12 bytes");

  reply = GoodReply();
  reply.mutable_output()->set_shape(0, -1);
  ExpectMalformed(reply, "output [-1, 2] came with 8 bytes");

  reply = GoodReply();
  reply.mutable_output()->set_dtype(v1::DTYPE_BOOL);
  ExpectMalformed(reply, "output has dtype DTYPE_BOOL, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16");

  reply = GoodReply();
  reply.mutable_output()->set_dtype(v1::DTYPE_BF16);
  ExpectMalformed(reply, "output [1, 2] came with 8 bytes");

  reply = TopKReply();
  reply.mutable_weights_keys()->set_dtype(v1::DTYPE_F32);
  ExpectMalformed(reply, "weights_keys has dtype DTYPE_F32, wanted DTYPE_I32");

  reply = TopKReply();
  reply.mutable_payloads()->RemoveLast();
  ExpectMalformed(reply, "it has 2 payloads, wanted 3");

  reply = TopKReply();
  reply.set_payloads(1, "123");
  ExpectMalformed(reply, "weights [3] came with 3 bytes");

  reply = SummaryReply();
  reply.mutable_payloads(2)->pop_back();
  ExpectMalformed(reply, "received_mass [1] came with 3 bytes");
}

grpc::ByteBuffer BytesOfMessage(const v1::AttendResponse& response) {
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

TEST(DecodeStreamReplyTest, AnErrorKeepsItsIdCodeAndMessage) {
  v1::AttendResponse response;
  response.set_request_id("seven");
  response.mutable_error()->set_code(5);
  response.mutable_error()->set_message("no such model");
  const auto reply = DecodeStreamReply(BytesOfMessage(response));
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->request_id, "seven");
  EXPECT_THAT(reply->reply, StatusIs(absl::StatusCode::kNotFound, "no such model"));
  response.mutable_error()->set_code(0);
  EXPECT_THAT(DecodeStreamReply(BytesOfMessage(response))->reply,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("its error has code 0")));
}

TEST(DecodeStreamReplyTest, AnErrorSaysWhenToComeAgainAndWhy) {
  v1::AttendResponse response;
  response.mutable_error()->set_code(8);
  response.mutable_error()->set_message("the queue is full");
  response.mutable_error()->set_retry_delay_ms(120);
  response.mutable_error()->set_reason("queue_full");
  const Refusal refusal = RefusalOf(DecodeStreamReply(BytesOfMessage(response))->reply.status());
  EXPECT_EQ(refusal.retry_delay, std::chrono::milliseconds(120));
  EXPECT_EQ(refusal.reason, "queue_full");
  response.mutable_error()->clear_retry_delay_ms();
  response.mutable_error()->clear_reason();
  const absl::Status plain = DecodeStreamReply(BytesOfMessage(response))->reply.status();
  EXPECT_EQ(plain, absl::ResourceExhaustedError("the queue is full"));
  EXPECT_EQ(RefusalOf(plain).reason, "");
}

TEST(EncodeRequestTest, TimeoutAndPriorityTravel) {
  const Tensor query{.shape = {1, 1, 2}, .values = {1, 2}};
  v1::AttendRequest request;
  ASSERT_TRUE(request.ParseFromString(Flatten(
      *EncodeRequest({.query = query.View(), .timeout = std::chrono::milliseconds(50), .priority = -3}))));
  EXPECT_EQ(request.timeout_us(), 50'000);
  EXPECT_EQ(request.priority(), -3);
}

TEST(DescribeRequestTest, IsTheRequestWithoutPayloads) {
  const Tensor query{.shape = {1, 1, 2}, .values = {1, 2}};
  const AttendCall call{.model = "m", .query = query.View(), .seq_lens = {1}, .dtype = v1::DTYPE_BF16};
  v1::AttendRequest sent;
  ASSERT_TRUE(sent.ParseFromString(Flatten(*EncodeRequest(call))));
  sent.clear_payloads();
  const auto described = DescribeRequest(call);
  ASSERT_THAT(described, IsOk());
  EXPECT_EQ(described->SerializeAsString(), sent.SerializeAsString());
  // Shapes are enough.
  AttendCall shapes = call;
  shapes.query->values = {};
  EXPECT_EQ(DescribeRequest(shapes)->SerializeAsString(), sent.SerializeAsString());
}

TEST(DecodeStreamReplyTest, AReplyThatContradictsItselfIsTheErrorOfItsRequest) {
  v1::AttendResponse response;
  response.set_request_id("seven");
  const auto reply = DecodeStreamReply(BytesOfMessage(response));
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->request_id, "seven");
  EXPECT_THAT(reply->reply, StatusIs(absl::StatusCode::kInternal, HasSubstr("it has no output")));
}

TEST(DecodeStreamReplyTest, BytesThatAreNoReplyHaveNoId) {
  const grpc::Slice slice("\xff\xff\xff");
  EXPECT_THAT(DecodeStreamReply(grpc::ByteBuffer(&slice, 1)),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("malformed")));
}

}  // namespace
}  // namespace headlight::client
