// SPDX-License-Identifier: Apache-2.0
#include "server/program/option_kinds.h"

#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/model/pooling.h"

namespace headlight {
namespace {

// The names in `text`, separated by commas. INVALID_ARGUMENT: one stands there twice.
absl::StatusOr<std::vector<std::string>> SplitNames(const std::string& text) {
  std::vector<std::string> names;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ','))) {
    if (std::find(names.begin(), names.end(), part) != names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(part), " twice, wanted each name once"));
    }
    names.push_back(part);
  }
  return names;
}

// NAME=VALUE with commas, each name once.
absl::StatusOr<std::map<std::string, std::string>> ParsePairs(const std::string& text, const char* wanted) {
  std::map<std::string, std::string> pairs;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(text, ',', absl::SkipEmpty()))) {
    const std::vector<std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(part), ", wanted ", wanted));
    }
    if (!pairs.emplace(sides[0], sides[1]).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("got ", Quoted(sides[0]), " twice, wanted each name once"));
    }
  }
  return pairs;
}

}  // namespace

Option Text(const std::string& name, const std::string& unit, const std::string& help,
            Member<std::string> member) {
  return {name, unit, help,
          [member](const std::string& text, ServerOptions& options) {
            options.*member = text;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return options.*member; }};
}

namespace {

Option WholeNumber(const std::string& name, const std::string& unit, const std::string& help, Range range,
                   bool or_auto, Member<int64_t> member) {
  return {name, unit, help,
          [member, range, or_auto](const std::string& text, ServerOptions& options) -> absl::Status {
            int64_t value = 0;
            const bool is_number = absl::SimpleAtoi(text, &value);
            const bool is_auto = or_auto && value == 0;
            if (!is_number || (!is_auto && (value < range.min || value > range.max))) {
              return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(text),
                                                             ", wanted a whole number from ", range.min,
                                                             " to ", range.max, or_auto ? ", or 0" : ""));
            }
            options.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrCat(options.*member); }};
}

}  // namespace

Option Number(const std::string& name, const std::string& unit, const std::string& help, Range range,
              Member<int64_t> member) {
  return WholeNumber(name, unit, help, range, /*or_auto=*/false, member);
}

Option NumberOrAuto(const std::string& name, const std::string& unit, const std::string& help, Range range,
                    Member<int64_t> member) {
  return WholeNumber(name, unit, help, range, /*or_auto=*/true, member);
}

Option Seconds(const std::string& name, const std::string& help, double max, Member<double> member) {
  return {name, "SECONDS", help,
          [member, max](const std::string& text, ServerOptions& options) -> absl::Status {
            double value = 0;
            if (!absl::SimpleAtod(text, &value) || !(value >= 0 && value <= max)) {
              return absl::InvalidArgumentError(
                  absl::StrCat("got ", Quoted(text), ", wanted a number from 0 to ", max));
            }
            options.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrCat(options.*member); }};
}

Option Switch(const std::string& name, const std::string& help, Member<bool> member) {
  Option option = {
      name, "true|false", help,
      [member](const std::string& text, ServerOptions& options) -> absl::Status {
        if (text != "true" && text != "false") {
          return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(text), ", wanted true or false"));
        }
        options.*member = text == "true";
        return absl::OkStatus();
      },
      [member](const ServerOptions& options) { return options.*member ? "true" : "false"; }};
  option.is_switch = true;
  return option;
}

Option Precisions(const std::string& name, const std::string& help, Member<PrecisionChoice> member) {
  return {name,
          "PRECISION|MODEL=PRECISION,...",
          help,
          [member](const std::string& text, ServerOptions& options) -> absl::Status {
            HEADLIGHT_ASSIGN_OR_RETURN(options.*member, ParsePrecisionChoice(text));
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return ToText(options.*member); },
          /*is_switch=*/false,
          /*is_list=*/true};
}

Option AnyNames(const std::string& name, const std::string& help, Member<std::vector<std::string>> member) {
  return {name,
          "NAME,...",
          help,
          [member](const std::string& text, ServerOptions& options) -> absl::Status {
            options.*member = {};
            if (text.empty()) return absl::OkStatus();
            HEADLIGHT_ASSIGN_OR_RETURN(options.*member, SplitNames(text));
            return absl::OkStatus();
          },
          [member](const ServerOptions& options) { return absl::StrJoin(options.*member, ","); },
          /*is_switch=*/false,
          /*is_list=*/true};
}

Option Names(const std::string& name, const std::string& help, const std::vector<std::string>& known,
             Member<std::vector<std::string>> member) {
  const auto set = [member, known](const std::string& text, ServerOptions& options) -> absl::Status {
    HEADLIGHT_ASSIGN_OR_RETURN(std::vector<std::string> names, SplitNames(text));
    for (const std::string& part : names) {
      if (std::find(known.begin(), known.end(), part) == known.end()) {
        return absl::InvalidArgumentError(absl::StrCat("got ", Quoted(part), ", wanted names out of ",
                                                       absl::StrJoin(known, ", "), ", separated by commas"));
      }
    }
    options.*member = std::move(names);
    return absl::OkStatus();
  };
  return {name,
          "NAME,...",
          absl::StrCat(help, ": ", absl::StrJoin(known, ", ")),
          set,
          [member](const ServerOptions& options) { return absl::StrJoin(options.*member, ","); },
          /*is_switch=*/false,
          /*is_list=*/true};
}

Option Poolings(const std::string& name, const std::string& help,
                Member<std::map<std::string, std::vector<Pooling>>> member) {
  Option option = {name, "MODEL=MODE,...", help,
                   [member](const std::string& text, ServerOptions& options) -> absl::Status {
                     HEADLIGHT_ASSIGN_OR_RETURN(const auto given, ParsePairs(text, "MODEL=MODE"));
                     std::map<std::string, std::vector<Pooling>> poolings;
                     for (const auto& [model, modes] : given) {
                       for (const std::string& mode : std::vector<std::string>(absl::StrSplit(modes, '+'))) {
                         const std::optional<Pooling> pooling = PoolingNamed(mode);
                         if (!pooling) {
                           return absl::InvalidArgumentError(
                               absl::StrCat("got ", Quoted(mode), ", wanted one of ", PoolingNames()));
                         }
                         poolings[model].push_back(*pooling);
                       }
                     }
                     options.*member = std::move(poolings);
                     return absl::OkStatus();
                   },
                   [member](const ServerOptions& options) {
                     return absl::StrJoin(options.*member, ",", [](std::string* out, const auto& model) {
                       absl::StrAppend(out, model.first, "=", Names(model.second, "+"));
                     });
                   }};
  option.is_list = true;
  return option;
}

Option Folders(const std::string& name, const std::string& help,
               Member<std::map<std::string, std::string>> member) {
  Option option = {name, "NAME=DIR", help,
                   [member](const std::string& text, ServerOptions& options) -> absl::Status {
                     HEADLIGHT_ASSIGN_OR_RETURN(options.*member, ParsePairs(text, "NAME=DIR"));
                     return absl::OkStatus();
                   },
                   [member](const ServerOptions& options) {
                     return absl::StrJoin(options.*member, ",", absl::PairFormatter("="));
                   }};
  option.is_list = option.repeats = true;
  return option;
}

}  // namespace headlight
