// SPDX-License-Identifier: Apache-2.0
//
// What is thrown while a call is answered ends that call.
#ifndef HEADLIGHT_SERVER_RPC_GUARDED_H_
#define HEADLIGHT_SERVER_RPC_GUARDED_H_

#include <exception>
#include <new>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {

// What `make` returns, a status or a StatusOr; what it throws ends the request, not the process, nor hangs it:
// gRPC swallows what its reactions throw, and a call of which one was cut short never ends.
template <typename Make>
std::invoke_result_t<Make> Guarded(const char* what, const Make& make) {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("memory is short: the ", what, "'s lists do not fit"));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("the ", what, " could not be made: ", error.what()));
  }
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_GUARDED_H_
