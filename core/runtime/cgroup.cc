// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cgroup.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/strings/str_split.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;

// `group` of the hierarchy at `mount`, and all above it.
void VisitUpwards(const fs::path& mount, const std::string& group,
                  absl::FunctionRef<void(const fs::path&)> visit) {
  fs::path relative = fs::path(group).relative_path().lexically_normal();
  if (!relative.empty() && *relative.begin() == "..") relative.clear();  // outside the namespace that we see
  visit(mount);
  for (fs::path folder = mount; const fs::path& part : relative) {
    folder /= part;
    visit(folder);
  }
}

}  // namespace

void VisitCgroups(const std::string& root, absl::string_view controller,
                  absl::FunctionRef<void(const fs::path&, CgroupVersion)> visit) {
  const fs::path mounts = fs::path(root) / "sys/fs/cgroup";
  std::ifstream lines(fs::path(root) / "proc/self/cgroup");
  // Each line is "hierarchy:controllers:group"; v2 has hierarchy 0 and no controllers.
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[1].empty()) {
      VisitUpwards(mounts, fields[2], [&](const fs::path& folder) { visit(folder, CgroupVersion::kV2); });
      continue;
    }
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    if (std::find(controllers.begin(), controllers.end(), controller) == controllers.end()) continue;
    const auto visit_v1 = [&](const fs::path& folder) { visit(folder, CgroupVersion::kV1); };
    // The mount is named after one controller or all of them; usually one name is a link to the other.
    VisitUpwards(mounts / std::string(controller), fields[2], visit_v1);
    if (controllers.size() > 1) VisitUpwards(mounts / fields[1], fields[2], visit_v1);
  }
}

}  // namespace headlight
