// SPDX-License-Identifier: Apache-2.0
//
// Where exceptions end: oneDNN, oneTBB and containers report failure by them, none crosses the core's
// interface.
#ifndef HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_
#define HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {

// body()'s status. RESOURCE_EXHAUSTED for std::bad_alloc, for containers that are asked for more than they
// can ever hold (std::length_error), and where the system lacks memory or threads; INTERNAL "`what` failed:
// ..." for every other exception.
template <typename Body>
absl::Status CatchExceptions(const char* what, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::length_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": too large: ", error.what()));
  } catch (const std::system_error& error) {
    const bool lacks_resources = error.code() == std::errc::resource_unavailable_try_again ||
                                 error.code() == std::errc::not_enough_memory;
    if (lacks_resources) return absl::ResourceExhaustedError(absl::StrCat(what, ": ", error.what()));
    return absl::InternalError(absl::StrCat(what, " failed: ", error.what()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, " failed: ", error.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(what, " failed for a reason it does not tell"));
  }
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_BASE_CATCH_EXCEPTIONS_H_
