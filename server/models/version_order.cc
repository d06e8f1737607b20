// SPDX-License-Identifier: Apache-2.0
#include "server/models/version_order.h"

#include <cstdint>

#include "absl/strings/numbers.h"

namespace headlight {

bool VersionLess::operator()(const std::string& a, const std::string& b) const {
  uint64_t number_a = 0;
  uint64_t number_b = 0;
  const bool a_is_number = absl::SimpleAtoi(a, &number_a);
  const bool b_is_number = absl::SimpleAtoi(b, &number_b);
  if (a_is_number != b_is_number) return a_is_number;
  if (a_is_number && number_a != number_b) return number_a < number_b;
  return a < b;
}

}  // namespace headlight
