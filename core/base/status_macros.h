// SPDX-License-Identifier: Apache-2.0
//
// Early return on a failed absl::Status or absl::StatusOr. The abseil of Debian 12 and 13 does not ship these
// yet.
#ifndef HEADLIGHT_CORE_BASE_STATUS_MACROS_H_
#define HEADLIGHT_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// HEADLIGHT_RETURN_IF_ERROR(expr): returns expr's status from the enclosing function unless it is OK.
#define HEADLIGHT_RETURN_IF_ERROR(expr)                                                          \
  do {                                                                                           \
    if (absl::Status headlight_status = (expr); !headlight_status.ok()) return headlight_status; \
  } while (false)

// HEADLIGHT_ASSIGN_OR_RETURN(auto x, expr): returns expr's status unless it is OK, else assigns its value.
#define HEADLIGHT_ASSIGN_OR_RETURN(lhs, expr) \
  HEADLIGHT_ASSIGN_OR_RETURN_IMPL(HEADLIGHT_CONCAT(headlight_status_or_, __LINE__), lhs, expr)
#define HEADLIGHT_ASSIGN_OR_RETURN_IMPL(status_or, lhs, expr) \
  auto status_or = (expr);                                    \
  if (!status_or.ok()) return status_or.status();             \
  lhs = *std::move(status_or)
#define HEADLIGHT_CONCAT(a, b) HEADLIGHT_CONCAT_IMPL(a, b)
#define HEADLIGHT_CONCAT_IMPL(a, b) a##b

#endif  // HEADLIGHT_CORE_BASE_STATUS_MACROS_H_
