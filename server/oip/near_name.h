// SPDX-License-Identifier: Apache-2.0
//
// What somebody may have meant by a name that is none.
#ifndef HEADLIGHT_SERVER_OIP_NEAR_NAME_H_
#define HEADLIGHT_SERVER_OIP_NEAR_NAME_H_

#include <span>
#include <string>

namespace headlight {

// The one of `names` that is reached from `wrong` by the fewest single letters changed, added or left out,
// two that stand the wrong way round counting as one; null where that is more than a third of its letters.
const char* NearName(const std::string& wrong, std::span<const char* const> names);

// "; did you mean query? Wanted one of query, key": what to say behind a name that is none of `names`.
std::string InsteadOf(const std::string& wrong, std::span<const char* const> names);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_NEAR_NAME_H_
