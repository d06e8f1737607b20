// SPDX-License-Identifier: Apache-2.0
//
// Where the kernel puts pages.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_MEMORY_POLICY_H_
#define HEADLIGHT_TESTS_CORE_TESTING_MEMORY_POLICY_H_

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace headlight::testing {

// Whether the page at `address` is to lie on several nodes' turn, `node` among them.
inline bool IsInterleaved(const void* address, int node) {
  constexpr int kBits = 1024;
  constexpr int kWordBits = 8 * sizeof(unsigned long);
  std::array<unsigned long, kBits / kWordBits> mask{};
  int mode = MPOL_DEFAULT;
  const long failed = syscall(SYS_get_mempolicy, &mode, mask.data(), static_cast<unsigned long>(kBits),
                              address, static_cast<unsigned long>(MPOL_F_ADDR));
  return failed == 0 && mode == MPOL_INTERLEAVE && (mask[node / kWordBits] >> (node % kWordBits) & 1) != 0;
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_MEMORY_POLICY_H_
