// SPDX-License-Identifier: Apache-2.0
//
// LogSettings and TraceSetting: what is logged and traced, in Triton's names, and what of it can be changed
// while the server runs.
#ifndef HEADLIGHT_SERVER_OIP_SERVER_SETTINGS_H_
#define HEADLIGHT_SERVER_OIP_SERVER_SETTINGS_H_

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"

namespace headlight {

// The level of the process's default logger: log_error, log_warning and log_info as far as they are on, and
// log_verbose_level 1 where it is "debug".
void DescribeLog(inference::LogSettingsResponse& out);

// Sets it, all of `request` or nothing. INVALID_ARGUMENT: a setting that cannot be changed, by its name, or
// levels of which no prefix is on, such as log_info without log_warning.
absl::Status ChangeLog(const inference::LogSettingsRequest& request);

// `exported`: whether spans go to a collector.
void DescribeTrace(bool exported, inference::TraceSettingResponse& out);

// INVALID_ARGUMENT if there is any setting in it: none can be changed.
absl::Status ChangeTrace(const inference::TraceSettingRequest& request);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_SERVER_SETTINGS_H_
