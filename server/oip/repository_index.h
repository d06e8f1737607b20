// SPDX-License-Identifier: Apache-2.0
//
// The models there are, loaded or not, as Triton's RepositoryIndex lists them.
#ifndef HEADLIGHT_SERVER_OIP_REPOSITORY_INDEX_H_
#define HEADLIGHT_SERVER_OIP_REPOSITORY_INDEX_H_

#include <functional>
#include <map>
#include <string>

#include "inference/grpc_service.pb.h"
#include "server/models/model_view.h"
#include "server/observe/load_watch.h"

namespace headlight {

// What there is beside the models that the caller's view has.
struct RepositoryFacts {
  std::map<std::string, std::string> on_disk;  // ModelLoader::OnDisk
  std::map<std::string, LoadWatch::Loading> loading;
};

// Whether requests to a model of that name are answered, as grpc.health.v1 tells.
using ModelServes = std::function<bool(const std::string& model)>;

// By name, of what may be seen: every version that is loaded, is being loaded or could not be, and of models
// that have none of these the newest in the folder. With `ready_only` those that answer.
void DescribeRepository(const ModelView& view, const RepositoryFacts& facts, const ModelServes& serves,
                        bool ready_only, inference::RepositoryIndexResponse& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_REPOSITORY_INDEX_H_
