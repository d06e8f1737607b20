// SPDX-License-Identifier: Apache-2.0
//
// Problems whose answers have the same bits on every x86 with fused multiply-adds. Their inputs come from a
// 64-bit Mersenne twister by whole numbers alone: neither the distributions of the standard library nor libm
// have a part in them.
#ifndef HEADLIGHT_TESTS_CORE_BITS_BIT_CASES_H_
#define HEADLIGHT_TESTS_CORE_BITS_BIT_CASES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/product/precision.h"

namespace headlight::testing {

// How a case is computed. Nothing of it but the precision and what parameters are rounded to may change a
// bit.
struct BitsRun {
  std::string kernel;  // empty: the one that is chosen here
  Precision precision = Precision::kF32;
  int num_threads = 1;
  bool batched = false;  // else each sequence is computed alone
  // What parameters are held in, or if they are rounded before, are rounded to.
  Precision parameters = Precision::kF32;
  bool rounded_before = false;
};

struct BitsCase {
  std::string name;
  // The CRC-32C of all results, sequence by sequence. UNIMPLEMENTED where the kernel does not compute in the
  // precision.
  std::function<absl::StatusOr<uint32_t>(const BitsRun& run)> compute;
};

// Forty of them: an attention problem for every semantic, and a model of every family, those of tests/golden.
std::vector<BitsCase> GoldenBits();

// An attention problem with any semantics, alone or together.
BitsCase RandomProblemBits(uint64_t seed);

// A model of each configuration of tests/core/model/test_model.h.
std::vector<BitsCase> ModelConfigBits();

// All kernels that compute in f32 here.
std::vector<std::string> KernelsOfF32();

// The kernels whose f32 answers have the same bits, as far as this CPU has them.
std::vector<std::string> KernelsOfTheSameBits();

// Whether this process computes with fused multiply-adds; else it is left out of the promise.
bool HasFusedMultiplyAdds();

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_BITS_BIT_CASES_H_
