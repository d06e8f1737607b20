// SPDX-License-Identifier: Apache-2.0
//
// Random tensors that are the same on every machine and with every standard library.
#ifndef HEADLIGHT_CLIENT_CLI_RANDOM_H_
#define HEADLIGHT_CLIENT_CLI_RANDOM_H_

#include <cstdint>
#include <random>

#include "client/tensor.h"

namespace headlight::client {

// Draws values that are all but standard normal: the sum of twelve uniform ones less 6 has mean 0, variance 1
// and lies within [-6, 6]. Each pair of uniform ones is the two halves of one std::mt19937_64 output, and the
// sum is taken in integers, so unlike std::normal_distribution or a transform through log and cos it is exact
// everywhere.
class RandomNormal {
 public:
  explicit RandomNormal(uint64_t seed) : generator_(seed) {}

  float Next();
  Tensor NextTensor(Shape shape);  // the shape's number of elements must fit in memory

 private:
  std::mt19937_64 generator_;
};

// Ids are int32.
inline constexpr int64_t kMaxVocabSize = int64_t{1} << 31;

// Ids uniform over [0, vocab_size), which is 1 to kMaxVocabSize; one std::mt19937_64 output each.
Ids RandomIds(uint64_t seed, Shape shape, int64_t vocab_size);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_RANDOM_H_
