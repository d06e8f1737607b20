// SPDX-License-Identifier: Apache-2.0
#include "server/oip/server_settings.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

using LogValue = inference::LogSettingsRequest::SettingValue;

// From what is always told to what seldom is; a level tells all before it too.
struct LogSwitch {
  const char* name;
  spdlog::level::level_enum level;
};
constexpr LogSwitch kSwitches[] = {{"log_error", spdlog::level::err},
                                   {"log_warning", spdlog::level::warn},
                                   {"log_info", spdlog::level::info},
                                   {"log_verbose_level", spdlog::level::debug}};
constexpr size_t kNumSwitches = std::size(kSwitches);
constexpr size_t kVerbose = kNumSwitches - 1;  // a number, where the others are true or false

using Switched = std::array<bool, kNumSwitches>;  // by kSwitches

Switched SwitchedNow() {
  Switched on;
  for (size_t i = 0; i < kNumSwitches; ++i) on[i] = spdlog::should_log(kSwitches[i].level);
  return on;
}

// Its place in kSwitches.
absl::StatusOr<size_t> SwitchNamed(const std::string& name) {
  for (size_t i = 0; i < kNumSwitches; ++i) {
    if (name == kSwitches[i].name) return i;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "settings: ", Quoted(name), " cannot be changed; log_warning, log_info and log_verbose_level can"));
}

absl::StatusOr<bool> ValueOf(size_t place, const LogValue& value) {
  if (place != kVerbose) {
    if (value.has_bool_param()) return value.bool_param();
    return absl::InvalidArgumentError(
        absl::StrCat("settings.", kSwitches[place].name, ": wanted true or false as bool_param"));
  }
  if (value.has_uint32_param()) return value.uint32_param() > 0;
  return absl::InvalidArgumentError(
      absl::StrCat("settings.", kSwitches[place].name, ": wanted a number as uint32_param, 0 or 1"));
}

}  // namespace

void DescribeLog(inference::LogSettingsResponse& out) {
  const Switched on = SwitchedNow();
  for (size_t i = 0; i < kNumSwitches; ++i) {
    auto& setting = (*out.mutable_settings())[kSwitches[i].name];
    if (i == kVerbose) {
      setting.set_uint32_param(on[i] ? 1 : 0);
    } else {
      setting.set_bool_param(on[i]);
    }
  }
}

absl::Status ChangeLog(const inference::LogSettingsRequest& request) {
  if (request.settings().empty()) return absl::OkStatus();
  Switched on = SwitchedNow();
  for (const auto& [name, value] : request.settings()) {
    HEADLIGHT_ASSIGN_OR_RETURN(const size_t place, SwitchNamed(name));
    HEADLIGHT_ASSIGN_OR_RETURN(on[place], ValueOf(place, value));
  }
  if (!on[0]) return absl::InvalidArgumentError("settings.log_error: got false; errors are always logged");
  size_t last = 0;
  for (size_t i = 1; i < kNumSwitches; ++i) {
    if (!on[i]) continue;
    if (!on[i - 1]) {
      return absl::InvalidArgumentError(absl::StrCat("settings.", kSwitches[i].name, ": wanted ",
                                                     kSwitches[i - 1].name,
                                                     " beside it, which is off; a level tells all below it"));
    }
    last = i;
  }
  spdlog::default_logger_raw()->set_level(kSwitches[last].level);
  return absl::OkStatus();
}

void DescribeTrace(bool exported, inference::TraceSettingResponse& out) {
  const auto set = [&out](const char* name, const char* value) {
    (*out.mutable_settings())[name].add_value(value);
  };
  set("trace_level", exported ? "TIMESTAMPS" : "OFF");
  set("trace_mode", "opentelemetry");
}

absl::Status ChangeTrace(const inference::TraceSettingRequest& request) {
  // The first by name, so that the answer does not change from call to call.
  std::set<std::string> names;
  for (const auto& [name, value] : request.settings()) names.insert(name);
  if (names.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("settings: ", Quoted(*names.begin()),
                                                 " cannot be changed; callers choose what is traced by their "
                                                 "traceparent, --otlp-endpoint where it goes"));
}

}  // namespace headlight
