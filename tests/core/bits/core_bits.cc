// SPDX-License-Identifier: Apache-2.0
//
// Bits of answers, one CRC-32C a line, and whether instruction sets agree about them.
//   core_bits golden                                 what golden_crcs.txt holds
//   core_bits list [PROBLEMS [PRECISION [KERNEL]]]   of random problems and of small models
//   core_bits compare ISA,ISA,... [PROBLEMS [PRECISION [KERNEL]]]
//                                                    `list` once for each value of ONEDNN_MAX_CPU_ISA, line by line
// A kernel of "" is the one that is chosen here; without one, all that are to agree compute each problem, alone on
// one thread and batched on two. Exit 1 where something differs.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/attention/layer.h"
#include "tests/core/bits/bit_cases.h"

namespace headlight::testing {
namespace {

int PrintGolden() {
  for (const BitsCase& bits : GoldenBits()) {
    const absl::StatusOr<uint32_t> crc = bits.compute({});
    if (!crc.ok()) {
      std::fprintf(stderr, "%s: %s\n", bits.name.c_str(), crc.status().ToString().c_str());
      return 1;
    }
    std::printf("%s %08x\n", bits.name.c_str(), *crc);
  }
  return 0;
}

// Its CRC, or in words what went wrong or differs.
std::string Line(const BitsCase& bits, Precision precision, const std::vector<std::string>& kernels) {
  std::string first;
  for (const std::string& kernel : kernels) {
    for (const bool batched : {false, true}) {
      const absl::StatusOr<uint32_t> crc = bits.compute(
          {.kernel = kernel, .precision = precision, .num_threads = batched ? 2 : 1, .batched = batched});
      if (!crc.ok()) return std::string(crc.status().message());
      const std::string text = absl::StrCat(absl::Hex(*crc, absl::kZeroPad8));
      if (first.empty()) first = text;
      if (text != first) {
        return absl::StrCat("DIFFERS: ", kernel, batched ? " batched " : " alone ", text, ", before ", first);
      }
    }
  }
  return first;
}

int PrintList(int64_t problems, Precision precision, const std::vector<std::string>& kernels) {
  std::vector<BitsCase> cases = ModelConfigBits();
  for (const BitsCase& golden : GoldenBits()) cases.push_back(golden);
  for (int64_t seed = 0; seed < problems; ++seed) cases.push_back(RandomProblemBits(seed));
  bool differs = false;
  for (const BitsCase& bits : cases) {
    const std::string line = Line(bits, precision, kernels);
    differs |= line.find("DIFFERS") != std::string::npos;
    std::printf("%s %s\n", bits.name.c_str(), line.c_str());
  }
  std::fprintf(stderr, "%s: %zu cases\n", AttentionLayer::IsaName().c_str(), cases.size());
  return differs ? 1 : 0;
}

std::vector<std::string> LinesOf(const std::string& command) {
  std::string text;
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  char part[4096];
  for (size_t count; (count = std::fread(part, 1, sizeof(part), pipe)) > 0;) text.append(part, count);
  if (pclose(pipe) != 0) std::printf("FAILED: %s\n", command.c_str());
  return absl::StrSplit(text, '\n');
}

int Compare(const std::string& program, const std::vector<std::string>& isas, const std::string& arguments) {
  std::vector<std::string> first;
  int64_t differences = 0;
  for (const std::string& isa : isas) {
    const std::vector<std::string> lines =
        LinesOf(absl::StrCat("ONEDNN_MAX_CPU_ISA=", isa, " ", program, " list ", arguments));
    if (first.empty()) first = lines;
    if (lines.size() != first.size()) ++differences;
    int64_t of_isa = 0;
    for (size_t i = 0; i < std::min(lines.size(), first.size()); ++i) {
      const bool same = lines[i] == first[i] && lines[i].find("DIFFERS") == std::string::npos;
      of_isa += same ? 0 : 1;
      if (!same && of_isa <= 20)
        std::printf("%s: %s, %s: %s\n", isas[0].c_str(), first[i].c_str(), isa.c_str(), lines[i].c_str());
    }
    std::printf("%s: %lld of %zu lines differ\n", isa.c_str(), static_cast<long long>(of_isa),
                lines.size() - 1);
    differences += of_isa;
  }
  return differences == 0 ? 0 : 1;
}

int Main(const std::vector<std::string>& arguments) {
  const std::string command = arguments.size() > 1 ? arguments[1] : "";
  if (command == "golden") return PrintGolden();
  if (command == "compare" && arguments.size() > 2) {
    std::string rest;
    for (size_t i = 3; i < arguments.size(); ++i) absl::StrAppend(&rest, " '", arguments[i], "'");
    return Compare(arguments[0], absl::StrSplit(arguments[2], ','), rest);
  }
  if (command != "list") {
    std::fprintf(stderr,
                 "usage: core_bits golden | list [PROBLEMS [PRECISION [KERNEL]]] | compare ISA,... [...]\n");
    return 2;
  }
  const int64_t problems = arguments.size() > 2 ? std::atoll(arguments[2].c_str()) : 200;
  Precision precision = Precision::kF32;
  for (const Precision named : {Precision::kBf16, Precision::kInt8}) {
    if (arguments.size() > 3 && arguments[3] == Name(named)) precision = named;
  }
  std::vector<std::string> kernels = KernelsOfTheSameBits();
  if (arguments.size() > 4) kernels = {arguments[4]};
  return PrintList(problems, precision, kernels);
}

}  // namespace
}  // namespace headlight::testing

int main(int argc, char** argv) {
  return headlight::testing::Main(std::vector<std::string>(argv, argv + argc));
}
