// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the .npy reader, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/fuzz/read_as_arrays.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ReadAsNpy(std::as_bytes(std::span(data, size)));
  return 0;
}

// As with safetensors: most of the time the length of a version 1 header follows what became of it.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  constexpr size_t kPrefixBytes = 10;  // magic, version and the length in the last two
  if (size < kPrefixBytes || data[6] != 1 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  uint8_t* const header = data + kPrefixBytes;
  const size_t header_size = std::min<size_t>(data[8] | data[9] << 8, size - kPrefixBytes);
  const std::vector<uint8_t> tail(header + header_size, data + size);
  const size_t room = std::min<size_t>(max_size - kPrefixBytes - tail.size(), UINT16_MAX);
  if (room == 0) return LLVMFuzzerMutate(data, size, max_size);
  const size_t length = LLVMFuzzerMutate(header, header_size, room);
  data[8] = length & 0xff;
  data[9] = length >> 8;
  std::copy(tail.begin(), tail.end(), header + length);
  return kPrefixBytes + length + tail.size();
}
