// SPDX-License-Identifier: Apache-2.0
#include "client/cli/random.h"

#include <utility>

namespace headlight::client {

float RandomNormal::Next() {
  int64_t sum = int64_t{-6} << 32;
  for (int i = 0; i < 6; ++i) {
    const uint64_t bits = generator_();
    sum += static_cast<int64_t>(bits >> 32) + static_cast<int64_t>(bits & 0xffff'ffff);
  }
  return static_cast<float>(static_cast<double>(sum) * 0x1p-32);
}

Tensor RandomNormal::NextTensor(Shape shape) {
  const std::optional<int64_t> num_elements = NumElements(shape);
  Tensor tensor{.shape = std::move(shape),
                .values = std::vector<float>(static_cast<size_t>(num_elements.value()))};
  for (float& value : tensor.values) value = Next();
  return tensor;
}

}  // namespace headlight::client
