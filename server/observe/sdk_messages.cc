// SPDX-License-Identifier: Apache-2.0
#include "server/observe/sdk_messages.h"

#include <opentelemetry/nostd/shared_ptr.h>
#include <opentelemetry/sdk/common/global_log_handler.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "server/observe/log_budget.h"

namespace headlight {
namespace {

namespace internal_log = opentelemetry::sdk::common::internal_log;

thread_local bool had_error = false;

// A collector that is away makes the SDK complain of each batch. What a collector answered is quoted: it
// could be anything.
class ToOurLog final : public internal_log::LogHandler {
 public:
  void Handle(internal_log::LogLevel level, const char* /*file*/, int /*line*/, const char* message,
              const opentelemetry::sdk::common::AttributeMap& /*attributes*/) noexcept override {
    if (level == internal_log::LogLevel::Error) had_error = true;
    if (message == nullptr || !budget_.Take(std::chrono::steady_clock::now())) return;
    const int64_t left_out = budget_.TakeLeftOut();
    spdlog::warn("OpenTelemetry: {}{}", Quoted(message),
                 left_out > 0 ? absl::StrCat(" (", left_out, " more were left out)") : "");
  }

 private:
  LogBudget budget_{/*lines_per_s=*/1};
};

}  // namespace

void SendSdkMessagesToLog() {
  using internal_log::GlobalLogHandler;
  GlobalLogHandler::SetLogHandler(opentelemetry::nostd::shared_ptr<internal_log::LogHandler>(new ToOurLog));
  GlobalLogHandler::SetLogLevel(internal_log::LogLevel::Warning);
}

bool TakeSdkError() { return std::exchange(had_error, false); }

}  // namespace headlight
