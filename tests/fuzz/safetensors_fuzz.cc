// SPDX-License-Identifier: Apache-2.0
//
// The fuzzer of the safetensors reader, for libFuzzer. scripts/fuzz.sh builds and runs it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/fuzz/read_as_safetensors.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlight::testing::ReadAsSafetensors(std::as_bytes(std::span(data, size)));
  return 0;
}

// Mutations that change the size of the header alone nearly always contradict its length, and then show
// nothing but that check: most of the time the length follows.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  uint64_t length = 0;
  if (size < sizeof(length) || seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(&length, data, sizeof(length));
  uint8_t* const header = data + sizeof(length);
  const size_t header_size = std::min<uint64_t>(length, size - sizeof(length));
  const std::vector<uint8_t> tail(header + header_size, data + size);
  const size_t room = max_size - sizeof(length) - tail.size();
  if (room == 0) return LLVMFuzzerMutate(data, size, max_size);
  length = LLVMFuzzerMutate(header, header_size, room);
  std::memcpy(data, &length, sizeof(length));
  std::copy(tail.begin(), tail.end(), header + length);
  return sizeof(length) + length + tail.size();
}
