// SPDX-License-Identifier: Apache-2.0
#include "client/record/verdict.h"

#include <gtest/gtest.h>

namespace headlight::client {
namespace {

v1::RecordedExchange TwoPayloads() {
  v1::RecordedExchange exchange;
  v1::Model& model = *exchange.mutable_model();
  model.set_name("demo");
  model.set_version("1");
  model.set_precision("f32");
  model.set_kernel("brgemm");
  model.set_layout("built-in");
  model.set_num_parameters(80);
  exchange.set_server_version("0.1.0");
  for (const char* field : {"output", "weights"}) {
    v1::RecordedPayload& payload = *exchange.add_payloads();
    payload.set_field(field);
    payload.set_crc32c(7);
  }
  return exchange;
}

TEST(CompareExchangesTest, EqualChecksumsAgreeWhateverComputedThem) {
  v1::RecordedExchange repeated = TwoPayloads();
  EXPECT_EQ(CompareExchanges(TwoPayloads(), repeated).outcome, Outcome::kAgrees);
  repeated.mutable_model()->set_kernel("avx512-fused");
  repeated.mutable_model()->set_version("2");
  const Verdict verdict = CompareExchanges(TwoPayloads(), repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kAgrees);
  EXPECT_EQ(verdict.reason, "");
}

TEST(CompareExchangesTest, NothingIsPromisedOfOtherKernels) {
  v1::RecordedExchange repeated = TwoPayloads();
  repeated.mutable_payloads(1)->set_crc32c(8);
  repeated.mutable_model()->set_kernel("matmul");
  const Verdict verdict = CompareExchanges(TwoPayloads(), repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kMayDiffer);
  EXPECT_EQ(verdict.reason,
            "weights; kernel matmul, whose bits are not promised; kernel matmul, recorded brgemm");
}

TEST(CompareExchangesTest, NamesThatOnlyLookAlikeAreOthers) {
  v1::RecordedExchange recorded = TwoPayloads();
  recorded.mutable_payloads()->RemoveLast();
  recorded.mutable_payloads(0)->set_field("output, weights");
  EXPECT_EQ(CompareExchanges(recorded, TwoPayloads()).outcome, Outcome::kDiffers);
}

TEST(CompareExchangesTest, OtherBitsOfTheSameModelInF32DifferByAnyKernelThatIsPromised) {
  v1::RecordedExchange repeated = TwoPayloads();
  repeated.mutable_payloads(1)->set_crc32c(8);
  Verdict verdict = CompareExchanges(TwoPayloads(), repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kDiffers);
  EXPECT_EQ(verdict.reason, "weights");
  repeated.mutable_payloads(0)->set_crc32c(8);
  repeated.mutable_model()->set_kernel("avx512-fused");
  repeated.set_server_version("0.2.0");
  verdict = CompareExchanges(TwoPayloads(), repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kDiffers);
  EXPECT_EQ(verdict.reason,
            "output, weights; kernel avx512-fused, recorded brgemm; server 0.2.0, recorded 0.1.0");
}

TEST(CompareExchangesTest, OtherBitsOfAnotherModelAreExplained) {
  const struct {
    void (*change)(v1::Model&);
    const char* reason;
  } cases[] = {
      {[](v1::Model& model) { model.set_version("2"); }, "output; version 2, recorded 1"},
      {[](v1::Model& model) { model.set_layout("bert"); }, "output; layout bert, recorded built-in"},
      {[](v1::Model& model) { model.set_num_parameters(81); }, "output; num_parameters 81, recorded 80"},
      {[](v1::Model& model) { model.set_num_layers(2); }, "output; num_layers 2, recorded 0"},
  };
  for (const auto& [change, reason] : cases) {
    v1::RecordedExchange repeated = TwoPayloads();
    repeated.mutable_payloads(0)->set_crc32c(8);
    change(*repeated.mutable_model());
    const Verdict verdict = CompareExchanges(TwoPayloads(), repeated);
    EXPECT_EQ(verdict.outcome, Outcome::kMayDiffer);
    EXPECT_EQ(verdict.reason, reason);
  }
}

TEST(CompareExchangesTest, NarrowPrecisionsMayDifferBetweenMachines) {
  v1::RecordedExchange recorded = TwoPayloads(), repeated = TwoPayloads();
  repeated.mutable_payloads(0)->set_crc32c(8);
  repeated.mutable_model()->set_precision("bf16");
  Verdict verdict = CompareExchanges(recorded, repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kMayDiffer);
  EXPECT_EQ(verdict.reason,
            "output; precision bf16, recorded f32; bf16, whose bits are promised on one kind of CPU alone");
  recorded.mutable_model()->set_precision("bf16");
  verdict = CompareExchanges(recorded, repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kMayDiffer);
  EXPECT_EQ(verdict.reason, "output; bf16, whose bits are promised on one kind of CPU alone");
}

TEST(CompareExchangesTest, NarrowParametersAreAnotherModelAndKeepThePromise) {
  v1::RecordedExchange recorded = TwoPayloads(), repeated = TwoPayloads();
  repeated.mutable_payloads(0)->set_crc32c(8);
  repeated.mutable_model()->set_parameters_precision("int8");
  Verdict verdict = CompareExchanges(recorded, repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kMayDiffer);
  EXPECT_EQ(verdict.reason, "output; parameters_precision int8, recorded none");
  recorded.mutable_model()->set_parameters_precision("int8");
  verdict = CompareExchanges(recorded, repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kDiffers);
}

TEST(CompareExchangesTest, OtherPayloadsDiffer) {
  v1::RecordedExchange repeated = TwoPayloads();
  repeated.mutable_payloads()->RemoveLast();
  const Verdict verdict = CompareExchanges(TwoPayloads(), repeated);
  EXPECT_EQ(verdict.outcome, Outcome::kDiffers);
  EXPECT_EQ(verdict.reason, "payloads output, recorded output, weights");
}

}  // namespace
}  // namespace headlight::client
