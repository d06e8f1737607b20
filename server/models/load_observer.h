// SPDX-License-Identifier: Apache-2.0
//
// Who wants to know how models come and go, such as metrics.
#ifndef HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_
#define HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_

#include <cstdint>
#include <string>

namespace headlight {

// Called from whichever thread loads.
class LoadObserver {
 public:
  virtual ~LoadObserver() = default;

  // A load of `model` ended, well or not, after `seconds`.
  virtual void ModelLoadEnded(const std::string& model, bool ok, double seconds) = 0;

  // From now on `version` answers for `model`, holding so much memory.
  virtual void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) = 0;

  // Nothing answers for `model` any more.
  virtual void ModelIsGone(const std::string& model) = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_
