// SPDX-License-Identifier: Apache-2.0
//
// Scores as Triton's classification extension tells them: the largest, as texts with their labels.
#ifndef HEADLIGHT_SERVER_OIP_CLASSIFICATION_H_
#define HEADLIGHT_SERVER_OIP_CLASSIFICATION_H_

#include <cstdint>
#include <span>
#include <string>

namespace headlight {

// Of each row of `scores`, [rows, columns], the `classes` largest, largest first and equal ones in the order
// of their places: "score:place", or "score:place:label" where there are labels. In the form in which BYTES
// travel: each text behind its length in four bytes.
std::string ClassesOf(std::span<const float> scores, int64_t columns, int64_t classes,
                      std::span<const std::string> labels);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_CLASSIFICATION_H_
