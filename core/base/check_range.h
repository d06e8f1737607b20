// SPDX-License-Identifier: Apache-2.0
//
// The commonest check of a field.
#ifndef HEADLIGHT_CORE_BASE_CHECK_RANGE_H_
#define HEADLIGHT_CORE_BASE_CHECK_RANGE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {

// INVALID_ARGUMENT naming the field unless it is within [min, max].
inline absl::Status CheckRange(const std::string& field, int64_t got, int64_t min, int64_t max) {
  if (got >= min && got <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", got, ", wanted ", min, "..", max));
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_CHECK_RANGE_H_
