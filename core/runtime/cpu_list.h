// SPDX-License-Identifier: Apache-2.0
//
// Lists of CPUs as the kernel writes them: "0-3,8,10-11".
#ifndef HEADLIGHT_CORE_RUNTIME_CPU_LIST_H_
#define HEADLIGHT_CORE_RUNTIME_CPU_LIST_H_

#include <filesystem>
#include <optional>
#include <vector>

namespace headlight {

// The CPUs that the first line of `file` lists, ascending; an empty line lists none. Nothing where it cannot
// be read or is no such list.
std::optional<std::vector<int>> ReadCpuList(const std::filesystem::path& file);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CPU_LIST_H_
