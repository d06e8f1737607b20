// SPDX-License-Identifier: Apache-2.0
//
// Which of two versions of a model is the newer one.
#ifndef HEADLIGHT_SERVER_MODELS_VERSION_ORDER_H_
#define HEADLIGHT_SERVER_MODELS_VERSION_ORDER_H_

#include <string>

namespace headlight {

// Orders versions as people do: numbers by value and before all other texts, those by their letters.
struct VersionLess {
  bool operator()(const std::string& a, const std::string& b) const;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_VERSION_ORDER_H_
