// SPDX-License-Identifier: Apache-2.0
//
// The kinds of options there are: how each reads its text and writes it again.
#ifndef HEADLIGHT_SERVER_PROGRAM_OPTION_KINDS_H_
#define HEADLIGHT_SERVER_PROGRAM_OPTION_KINDS_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"
#include "server/models/precision_choice.h"
#include "server/program/options.h"

namespace headlight {

// One option: its name without dashes (which is also the key in the file), its help and its way into
// ServerOptions. Values are read by our own code rather than by CLI11's, whose versions differ in what they
// accept and which silently skip wrong values of environment variables.
struct Option {
  std::string name;
  std::string unit;  // what --help shows in place of the value
  std::string help;
  std::function<absl::Status(const std::string& text, ServerOptions& options)> set;
  std::function<std::string(const ServerOptions& options)> get;
  bool is_switch = false;  // the flag may stand without a value
  bool is_list = false;    // values of a TOML list, and of a flag that stands more than once where `repeats`,
  bool repeats = false;    // are joined with commas
};

template <typename Value>
using Member = Value ServerOptions::*;

Option Text(const std::string& name, const std::string& unit, const std::string& help,
            Member<std::string> member);

struct Range {
  int64_t min;
  int64_t max;
};

Option Number(const std::string& name, const std::string& unit, const std::string& help, Range range,
              Member<int64_t> member);

// The same, or 0, which leaves the number to what else is known.
Option NumberOrAuto(const std::string& name, const std::string& unit, const std::string& help, Range range,
                    Member<int64_t> member);

// Not negative, and at most `max`.
Option Seconds(const std::string& name, const std::string& help, double max, Member<double> member);

// Off unless given; alone it means true.
Option Switch(const std::string& name, const std::string& help, Member<bool> member);

// As ParsePrecisionChoice reads it.
Option Precisions(const std::string& name, const std::string& help, Member<PrecisionChoice> member);
// MODEL=MODE or MODEL=MODE+MODE, with commas.
Option Poolings(const std::string& name, const std::string& help,
                Member<std::map<std::string, std::vector<Pooling>>> member);

// Any names, none twice, separated by commas; none at all is allowed.
Option AnyNames(const std::string& name, const std::string& help, Member<std::vector<std::string>> member);

// Names of `known`, none twice, separated by commas.
Option Names(const std::string& name, const std::string& help, const std::vector<std::string>& known,
             Member<std::vector<std::string>> member);

// NAME=DIR, any number of them, separated by commas or in flags of their own.
Option Folders(const std::string& name, const std::string& help,
               Member<std::map<std::string, std::string>> member);

// One of `values`, by name.
template <typename Value>
Option Choice(const std::string& name, const std::string& help,
              const std::vector<std::pair<std::string, Value>>& values, Member<Value> member) {
  const std::string names =
      absl::StrJoin(values, "|", [](std::string* out, const auto& value) { *out += value.first; });
  return {name, names, help,
          [member, values, names](const std::string& text, ServerOptions& options) -> absl::Status {
            for (const auto& [value_name, value] : values) {
              if (value_name != text) continue;
              options.*member = value;
              return absl::OkStatus();
            }
            return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(text), ", wanted ", names));
          },
          [member, values](const ServerOptions& options) {
            return std::find_if(values.begin(), values.end(),
                                [&](const auto& value) { return value.second == options.*member; })
                ->first;
          }};
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_OPTION_KINDS_H_
