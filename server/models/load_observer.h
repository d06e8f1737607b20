// SPDX-License-Identifier: Apache-2.0
//
// Who wants to know how models come and go, such as metrics.
#ifndef HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_
#define HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace headlight {

// Called from whichever thread loads.
class LoadObserver {
 public:
  virtual ~LoadObserver() = default;

  // `version` of `model` is being loaded from now on.
  virtual void ModelLoadBegan(const std::string& model, const std::string& version) = 0;

  // That load ended, well or not, after `seconds`. Not called where loading is given up for a shutdown.
  virtual void ModelLoadEnded(const std::string& model, const std::string& version,
                              const absl::Status& status, double seconds) = 0;

  // From now on `version` answers for `model`, holding so much memory.
  virtual void ModelServes(const std::string& model, const std::string& version, int64_t memory_bytes) = 0;

  // Nothing answers for `model` any more.
  virtual void ModelIsGone(const std::string& model) = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_LOAD_OBSERVER_H_
