// SPDX-License-Identifier: Apache-2.0
//
// Where the kernel says what a container may use.
#ifndef HEADLIGHT_CORE_RUNTIME_CGROUP_H_
#define HEADLIGHT_CORE_RUNTIME_CGROUP_H_

#include <filesystem>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace headlight {

enum class CgroupVersion { kV1, kV2 };

// Calls `visit` for every folder whose files bound this process's use of what `controller` ("cpu", "memory")
// controls: its own group's and those of the groups above it, up to the mount; some perhaps twice. Inside a
// container the group named by /proc/self/cgroup is often not there, since the mount shows the container's
// own group as its root: then only the root has such files, which is what is wanted. `root` stands for "/".
void VisitCgroups(const std::string& root, absl::string_view controller,
                  absl::FunctionRef<void(const std::filesystem::path& folder, CgroupVersion version)> visit);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CGROUP_H_
