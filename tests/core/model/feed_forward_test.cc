// SPDX-License-Identifier: Apache-2.0
#include "core/model/feed_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/reference.h"
#include "tests/core/testing/kernel_fixture.h"

namespace headlight {
namespace {

constexpr int64_t kNetworkWidth = 70;
constexpr int64_t kNetworkHidden = 150;  // three panels

// Goes on for so many questions.
class NetworkPatience final : public Interruption {
 public:
  explicit NetworkPatience(int questions) : left_(questions) {}
  bool MayGoOn() const override { return left_-- > 0; }

 private:
  mutable int left_;
};

// Of -1, 0 and 1; a unit takes 10 inputs, an output takes them all.
FeedForwardParameters WholeParameters(bool gated) {
  const auto numbers = [](int64_t rows, int64_t cols, int64_t every, int64_t seed) {
    std::vector<float> matrix(rows * cols, 0.0f);
    for (int64_t row = 0; row < rows; row += every) {
      for (int64_t col = 0; col < cols; ++col) {
        matrix[row * cols + col] = static_cast<float>((row * 5 + col * 7 + seed) % 3 - 1);
      }
    }
    return matrix;
  };
  FeedForwardParameters parameters{.up = numbers(kNetworkWidth, kNetworkHidden, 7, 0),
                                   .up_bias = numbers(1, kNetworkHidden, 1, 1),
                                   .down = numbers(kNetworkHidden, kNetworkWidth, 1, 2),
                                   .down_bias = numbers(1, kNetworkWidth, 1, 0)};
  if (gated) {
    parameters.gate = numbers(kNetworkWidth, kNetworkHidden, 7, 1);
    parameters.gate_bias = numbers(1, kNetworkHidden, 1, 0);
  }
  return parameters;
}

std::vector<float> WholeInput(int64_t rows) {
  std::vector<float> input(rows * kNetworkWidth);
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i * 11 % 3) - 1.0f;
  return input;
}

// The network of one row in double; `hidden` and `output` without their last bias.
struct PlainNetwork {
  PlainNetwork(const FeedForwardParameters& parameters, const float* x)
      : hidden(kNetworkHidden), output(kNetworkWidth) {
    for (int64_t unit = 0; unit < kNetworkHidden; ++unit) {
      double up = parameters.up_bias[unit], gate = parameters.gate.empty() ? 0.0 : parameters.gate_bias[unit];
      for (int64_t i = 0; i < kNetworkWidth; ++i) {
        up += static_cast<double>(x[i]) * parameters.up[i * kNetworkHidden + unit];
        if (!parameters.gate.empty())
          gate += static_cast<double>(x[i]) * parameters.gate[i * kNetworkHidden + unit];
      }
      hidden[unit] = parameters.gate.empty() ? std::max(up, 0.0) : std::max(gate, 0.0) * up;
      for (int64_t out = 0; out < kNetworkWidth; ++out) {
        output[out] += hidden[unit] * parameters.down[unit * kNetworkWidth + out];
      }
    }
  }
  std::vector<double> hidden, output;
};

// Once for each kernel and precision that there is.
class FeedForwardTest : public ::testing::TestWithParam<testing::KernelParam> {
 protected:
  void SetUp() override {
    absl::StatusOr<Arithmetic> arithmetic =
        ChooseArithmetic(GetParam().precision, kNetworkHidden, GetParam().kernel);
    if (!arithmetic.ok()) GTEST_SKIP() << arithmetic.status();
    if (arithmetic->precision != GetParam().precision) GTEST_SKIP() << arithmetic->note;
    arithmetic_ = *arithmetic;
  }

  FeedForward Network(bool gated) const {
    return FeedForward(arithmetic_,
                       {.hidden_dim = kNetworkHidden, .activation = Activation::kRelu, .gated = gated},
                       kNetworkWidth);
  }

  // Calls for_each_panels(panels, body(first panel, end panel)) to cut both steps.
  template <typename Cut>
  std::vector<float> Run(const FeedForward& network, const FeedForwardParameters& parameters,
                         const std::vector<float>& input, const Cut& cut) const {
    const int64_t rows = std::ssize(input) / kNetworkWidth;
    PanelStorage storage(network.StorageBytes());
    const PackedFeedForward packed = network.Pack(parameters, storage);
    FeedForwardRows memory;
    FeedForwardScratch scratch;
    EXPECT_TRUE(network.Reserve(rows, memory) && network.Reserve(rows, scratch));
    memory.ForEachBuffer([](Buffer& buffer) {
      if (buffer.ok()) std::memset(buffer.bytes(), 0xff, buffer.size_bytes());  // NaN, which must not spread
    });
    std::copy(input.begin(), input.end(), memory.input.floats());
    network.BeginWork();
    network.Prepare(memory, rows);
    const NetworkPatience patience(1 << 30);
    cut(packed.up.num_panels(), [&](int64_t first, int64_t end) {
      EXPECT_TRUE(network.Up(packed, memory, rows, first, end, scratch, patience));
    });
    network.PrepareHidden(memory, rows);
    cut(packed.down.num_panels(), [&](int64_t first, int64_t end) {
      EXPECT_TRUE(network.Down(packed, memory, rows, first, end, scratch, patience));
    });
    return {memory.output.floats(), memory.output.floats() + rows * kNetworkWidth};
  }

  static constexpr auto kAtOnce = [](int64_t panels, const auto& body) { body(0, panels); };
  static constexpr auto kPanelByPanel = [](int64_t panels, const auto& body) {
    for (int64_t panel = panels - 1; panel >= 0; --panel) body(panel, panel + 1);
  };

  Arithmetic arithmetic_;
};

INSTANTIATE_TEST_SUITE_P(Kernels, FeedForwardTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

// Whole numbers below 256 are exact in f32 and bf16. In int8 activations and hidden units are off by half a
// step of their row, weights, whose steps divide 1, by a few roundings.
TEST_P(FeedForwardTest, IsTheFormulaGatedAndNot) {
  for (const bool gated : {false, true}) {
    for (const int64_t rows : {1, 3, 37}) {
      SCOPED_TRACE(absl::StrCat(rows, gated ? " rows, gated" : " rows"));
      const FeedForwardParameters parameters = WholeParameters(gated);
      const std::vector<float> input = WholeInput(rows);
      const std::vector<float> output = Run(Network(gated), parameters, input, kAtOnce);
      for (int64_t row = 0; row < rows; ++row) {
        const PlainNetwork plain(parameters, input.data() + row * kNetworkWidth);
        double error = 0;
        if (GetParam().precision == Precision::kInt8) {
          // 10 inputs from -1 to 1, each off by 1 / 255, make a unit; a gate has as many.
          const double of_sum = 10 * 1.001 / 255;
          const double largest = *std::max_element(plain.hidden.begin(), plain.hidden.end());
          const double lowest = *std::min_element(plain.hidden.begin(), plain.hidden.end());
          const double of_unit = gated ? of_sum * (2 * 12 + of_sum) : of_sum;
          const double step = (std::max(largest, 0.0) - std::min(lowest, 0.0) + 2 * of_unit) / 255;
          error = kNetworkHidden * (of_unit + step * 0.501);
        }
        for (int64_t out = 0; out < kNetworkWidth; ++out) {
          ASSERT_NEAR(output[row * kNetworkWidth + out], plain.output[out], error) << row << ", " << out;
        }
      }
    }
  }
}

TEST_P(FeedForwardTest, HowTheStepsAreCutChangesNoBit) {
  FeedForwardParameters parameters = WholeParameters(true);
  for (size_t i = 0; i < parameters.up.size(); ++i) parameters.up[i] = std::sin(static_cast<float>(i));
  for (size_t i = 0; i < parameters.down.size(); ++i) parameters.down[i] = std::cos(static_cast<float>(i));
  const FeedForward network = Network(true);
  const std::vector<float> input = WholeInput(9);
  const std::vector<float> whole = Run(network, parameters, input, kAtOnce);
  EXPECT_TRUE(testing::SameBits(Run(network, parameters, input, kPanelByPanel), whole));
  for (int64_t row = 0; row < 9; ++row) {
    const std::vector<float> alone =
        Run(network, parameters,
            {input.begin() + row * kNetworkWidth, input.begin() + (row + 1) * kNetworkWidth}, kAtOnce);
    EXPECT_TRUE(testing::SameBits(
        alone, {whole.begin() + row * kNetworkWidth, whole.begin() + (row + 1) * kNetworkWidth}))
        << row;
  }
}

TEST_P(FeedForwardTest, MissingBiasesAreZeros) {
  FeedForwardParameters with = WholeParameters(true);
  for (std::vector<float>* bias : {&with.up_bias, &with.gate_bias, &with.down_bias}) {
    std::fill(bias->begin(), bias->end(), 0.0f);
  }
  FeedForwardParameters without = with;
  without.up_bias = without.gate_bias = without.down_bias = {};
  const FeedForward network = Network(true);
  EXPECT_EQ(Run(network, with, WholeInput(3), kAtOnce), Run(network, without, WholeInput(3), kAtOnce));
  PanelStorage storage(network.StorageBytes());
  EXPECT_EQ(network.Pack(without, storage).down_bias, std::vector<float>(kNetworkWidth, 0.0f));
}

TEST_P(FeedForwardTest, EndsWhereTheInterruptionSaysSo) {
  const FeedForward network = Network(false);
  PanelStorage storage(network.StorageBytes());
  const PackedFeedForward packed = network.Pack(WholeParameters(false), storage);
  FeedForwardRows memory;
  FeedForwardScratch scratch;
  ASSERT_TRUE(network.Reserve(2, memory) && network.Reserve(2, scratch));
  std::fill_n(memory.input.floats(), 2 * kNetworkWidth, 1.0f);
  network.BeginWork();
  network.Prepare(memory, 2);
  EXPECT_FALSE(network.Up(packed, memory, 2, 0, 3, scratch, NetworkPatience(2)));
  EXPECT_TRUE(network.Up(packed, memory, 2, 0, 3, scratch, NetworkPatience(3)));
  network.PrepareHidden(memory, 2);
  EXPECT_FALSE(network.Down(packed, memory, 2, 0, 2, scratch, NetworkPatience(1)));
  EXPECT_TRUE(network.Down(packed, memory, 2, 0, 2, scratch, NetworkPatience(2)));
}

TEST_P(FeedForwardTest, GrowsByWhatItSays) {
  for (const bool gated : {false, true}) {
    const FeedForward network = Network(gated);
    FeedForwardRows memory;
    FeedForwardScratch scratch;
    const auto held = [&] {
      int64_t bytes = 0;
      const auto add = [&](Buffer& buffer) { bytes += buffer.size_bytes(); };
      memory.ForEachBuffer(add);
      scratch.ForEachBuffer(add);
      return bytes;
    };
    for (const int64_t rows : {5, 200, 30}) {
      const int64_t before = held(), growth = network.GrowthFor(rows, memory, scratch);
      ASSERT_TRUE(network.Reserve(rows, memory) && network.Reserve(rows, scratch));
      EXPECT_EQ(held(), before + growth) << rows << " rows";
    }
  }
}

TEST(FeedForwardRowsTest, AtOnceFillHalfOfL2OrAreFew) {
  EXPECT_EQ(FeedForward::RowsAtOnce(1), PanelGemm::kMaxRows);
  EXPECT_EQ(FeedForward::RowsAtOnce(1024), 256);
  EXPECT_EQ(FeedForward::RowsAtOnce(3072), 64);
  EXPECT_EQ(FeedForward::RowsAtOnce(1 << 20), 32);
}

}  // namespace
}  // namespace headlight
