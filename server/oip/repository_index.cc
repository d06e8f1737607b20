// SPDX-License-Identifier: Apache-2.0
#include "server/oip/repository_index.h"

#include <utility>

#include "server/models/version_order.h"

namespace headlight {
namespace {

struct Indexed {
  std::string state;
  std::string reason;
};

}  // namespace

void DescribeRepository(const ModelView& view, const RepositoryFacts& facts, const ModelServes& serves,
                        bool ready_only, inference::RepositoryIndexResponse& out) {
  std::map<std::string, std::map<std::string, Indexed, VersionLess>> models;
  for (const auto& model : view.List()) {
    models[model->name][model->version] =
        serves(model->name) ? Indexed{"READY", ""}
                            : Indexed{"UNAVAILABLE", "it is loaded and not serving, as its health says"};
  }
  for (const auto& [name, error] : view.LoadErrors()) {  // of the newest version
    const auto newest = facts.on_disk.find(name);
    const std::string version = newest == facts.on_disk.end() ? "" : newest->second;
    // Files that were broken since they were loaded leave what was made of them serving.
    models[name].try_emplace(version, Indexed{"UNAVAILABLE", ""}).first->second.reason = error;
  }
  for (const auto& [name, loading] : facts.loading) {
    if (view.MaySee(name)) models[name].insert_or_assign(loading.version, Indexed{"LOADING", ""});
  }
  for (const auto& [name, version] : facts.on_disk) {
    if (view.MaySee(name) && !models.contains(name)) models[name][version] = {"UNAVAILABLE", "unloaded"};
  }
  for (const auto& [name, versions] : models) {
    for (const auto& [version, indexed] : versions) {
      if (ready_only && indexed.state != "READY") continue;
      inference::RepositoryIndexResponse::ModelIndex& model = *out.add_models();
      model.set_name(name);
      model.set_version(version);
      model.set_state(indexed.state);
      model.set_reason(indexed.reason);
    }
  }
}

}  // namespace headlight
