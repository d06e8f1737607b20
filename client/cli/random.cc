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

Ids RandomIds(uint64_t seed, Shape shape, int64_t vocab_size) {
  std::mt19937_64 generator(seed);
  std::vector<int32_t> ids(static_cast<size_t>(NumElements(shape).value()));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>((generator() >> 32) * static_cast<uint64_t>(vocab_size) >> 32);
  }
  return {.shape = std::move(shape), .values = std::move(ids)};
}

}  // namespace headlight::client
