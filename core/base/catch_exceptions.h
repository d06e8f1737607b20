// SPDX-License-Identifier: Apache-2.0
//
// Where exceptions end: oneDNN and containers report failure by them, none crosses the core's interface.
#ifndef HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_
#define HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_

#include <exception>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {

// body()'s status; RESOURCE_EXHAUSTED for std::bad_alloc, INTERNAL "`what` failed: ..." for every other
// exception.
template <typename Body>
absl::Status CatchExceptions(const char* what, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, " failed: ", error.what()));
  }
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_
