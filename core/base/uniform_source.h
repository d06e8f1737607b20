// SPDX-License-Identifier: Apache-2.0
//
// Random numbers for weights, the same bits on every machine.
#ifndef HEADLIGHT_CORE_BASE_UNIFORM_SOURCE_H_
#define HEADLIGHT_CORE_BASE_UNIFORM_SOURCE_H_

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace headlight {

// Uniform f32 numbers in [-bound, bound), the same bits everywhere: the standard fixes the twister's output,
// and the arithmetic rounds once. A draw's top 24 bits make a multiple of 2^-23 in [-1, 1); times a bound
// that is itself an f32 the product has at most 48 significant bits, so it is exact in double and only the
// conversion back rounds.
class UniformSource {
 public:
  explicit UniformSource(uint64_t seed) : twister_(seed) {}

  std::vector<float> Draw(int64_t size, float bound) {
    std::vector<float> values(size);
    for (float& value : values) {
      const int64_t top_bits = static_cast<int64_t>(twister_() >> 40);
      const double unit = static_cast<double>(top_bits - (int64_t{1} << 23)) * 0x1p-23;
      value = static_cast<float>(unit * static_cast<double>(bound));
    }
    return values;
  }

 private:
  std::mt19937_64 twister_;
};

// Glorot and Bengio 2010, equation 16. Division and square root are correctly rounded wherever IEEE 754
// holds.
inline float XavierBound(int64_t in, int64_t out) {
  return static_cast<float>(std::sqrt(6.0 / static_cast<double>(in + out)));
}

constexpr float kBiasBound = 0.02f;
constexpr float kGainBound = 0.1f;  // around 1

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_UNIFORM_SOURCE_H_
