// SPDX-License-Identifier: Apache-2.0
//
// Loading and unloading of models on a caller's behalf: who may, and what they are told. The same for every
// protocol.
#ifndef HEADLIGHT_SERVER_SECURITY_MODEL_CONTROL_H_
#define HEADLIGHT_SERVER_SECURITY_MODEL_CONTROL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/models/model_loader.h"
#include "server/models/model_view.h"
#include "server/models/registry.h"
#include "server/security/gate.h"
#include "server/security/identity.h"

namespace headlight {

// PERMISSION_DENIED: `who` has not the right to control models, which is the right to do `what` ("load and
// unload models") too.
absl::Status CheckMayControl(const Identity& who, const Gate& gate, const std::string& what);

// Thread-safe.
class ModelControl {
 public:
  using Who = std::shared_ptr<const Identity>;
  using Done = ModelLoader::Done;

  // All of it must outlive this. `loader` is null without a model repository.
  ModelControl(const ModelRegistry& registry, const Gate& gate, ModelLoader* loader)
      : registry_(registry), gate_(gate), loader_(loader) {}

  // As ModelLoader's, on behalf of `who`. `done` is called once, perhaps before this returns, and hears of no
  // model that `who` may not see. PERMISSION_DENIED: not for this caller. FAILED_PRECONDITION: there is
  // nothing to load from. INVALID_ARGUMENT: no name; `field` is what the protocol calls it.
  void Load(const Who& who, const char* field, const std::string& model, Done done) const;
  void Unload(const Who& who, const char* field, const std::string& model, Done done) const;

 private:
  absl::Status Check(const Identity& who, const char* field, const std::string& model) const;
  // What the loader says of `model`, without the names of models that are not for the caller to see.
  Done ForEyesOf(const Who& who, const char* field, const std::string& model, Done done) const;

  const ModelRegistry& registry_;
  const Gate& gate_;
  ModelLoader* const loader_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_MODEL_CONTROL_H_
