// SPDX-License-Identifier: Apache-2.0
//
// Which models somebody may see, by name alone: whether a model exists makes no difference, so what is
// refused tells nothing of it.
#ifndef HEADLIGHT_SERVER_MODELS_MODEL_RIGHTS_H_
#define HEADLIGHT_SERVER_MODELS_MODEL_RIGHTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace headlight {

// Immutable but for assignment.
class ModelRights {
 public:
  static const ModelRights& All();
  static const ModelRights& None();

  // Whether `pattern` is one: a name, or "PREFIX*" for every name that begins so. INVALID_ARGUMENT says what
  // it got.
  static absl::Status CheckPattern(const std::string& pattern);

  // Models that any of `patterns`, which must be some, stands for.
  explicit ModelRights(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}

  bool MaySee(const std::string& name) const;
  bool MaySeeAll() const;
  const std::vector<std::string>& patterns() const { return patterns_; }

  friend bool operator==(const ModelRights&, const ModelRights&) = default;

 private:
  std::vector<std::string> patterns_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MODEL_RIGHTS_H_
