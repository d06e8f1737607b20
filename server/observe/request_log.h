// SPDX-License-Identifier: Apache-2.0
//
// Where the record of a request goes when the request is over: to the log and to whoever counts.
#ifndef HEADLIGHT_SERVER_OBSERVE_REQUEST_LOG_H_
#define HEADLIGHT_SERVER_OBSERVE_REQUEST_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/observe/log_budget.h"
#include "server/observe/request_record.h"

namespace spdlog {
class logger;  // whose header takes longer to compile than all that includes this one
}

namespace headlight {

// Hears of every request once, such as metrics. Called from the threads that end requests: thread-safe, and
// quick.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  virtual void RequestEnded(const RequestRecord& record) = 0;
};

// How lines of requests are written: "request method=Attend ..." or a JSON object of the same fields.
enum class RequestLogForm : uint8_t { kText, kJson };

// The logger that lines of requests go to. Their payload in JSON is an object, not a text, by which a
// formatter may tell them.
inline constexpr char kRequestLogger[] = "headlight.request";

struct RequestLogOptions {
  RequestLogForm form = RequestLogForm::kText;
  // Lines a second, at most, of requests that were answered, and as many of those that were not; 0: none.
  int64_t lines_per_s = 50;
};

// Thread-safe.
class RequestLog {
 public:
  // Writes to where the default logger writes now, at the level that it has by then. `observers` must outlive
  // this.
  RequestLog(const RequestLogOptions& options, std::vector<RequestObserver*> observers);

  // Call it once for a request. Errors of this server are told at level error, all of them; other ends at
  // level info, as many as the options allow, or all where the level is debug. Nothing is built of a line
  // that is not written.
  void Emit(const RequestRecord& record);

  // Says how many lines were left out since the last call, if any were. To be called every second or so.
  void TellLeftOut();

 private:
  const RequestLogOptions options_;
  const std::vector<RequestObserver*> observers_;
  const std::shared_ptr<spdlog::logger> logger_;
  LogBudget ordinary_;
  LogBudget refused_;
};

// The lines' payloads. Fields that are 0 or empty are left out, but for the code.
std::string RequestText(const RequestRecord& record);
std::string RequestJson(const RequestRecord& record);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_REQUEST_LOG_H_
