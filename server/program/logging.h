// SPDX-License-Identifier: Apache-2.0
//
// Sets up the process's log: spdlog on stderr, as text or as one JSON object a line. The messages of gRPC and
// protobuf go there too.
#ifndef HEADLIGHT_SERVER_PROGRAM_LOGGING_H_
#define HEADLIGHT_SERVER_PROGRAM_LOGGING_H_

#include "server/program/options.h"

namespace headlight {

// Replaces the default logger of the process. Call it before there are other threads.
void ConfigureLogging(LogLevel level, LogFormat format);

// From now on, for the default logger. Thread-safe, as is IsLogLevel.
void SetLogLevel(LogLevel level);

// Whether that is what is in force, whoever set it: callers with the right may have (OIP's LogSettings).
bool IsLogLevel(LogLevel level);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_LOGGING_H_
