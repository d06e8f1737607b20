// SPDX-License-Identifier: Apache-2.0
//
// The state of the server at a moment, and how it is told: to probes, to programs, to people.
#ifndef HEADLIGHT_SERVER_OBSERVE_SERVER_STATUS_H_
#define HEADLIGHT_SERVER_OBSERVE_SERVER_STATUS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/observe/admin_http.h"
#include "server/observe/recent_errors.h"
#include "server/observe/request_metrics.h"

namespace headlight {

enum class ServerPhase : uint8_t { kStarting, kServing, kDraining };

struct ModelStatus {
  // Wrong: it is held, and computes other bits than when it was loaded.
  enum class State : uint8_t { kServing, kWrong, kLoading, kFailed };
  std::string name;
  std::string version;
  State state = State::kServing;
  std::string precision;     // of one that is held, as is the memory
  int64_t memory_bytes = 0;  // of its packed weights
  double loading_s = 0;      // of one that is being loaded: for how long
  std::string error;         // of its last load, in full, or what is wrong with it
};

struct ServerStatus {
  std::string version;  // of the program
  ServerPhase phase = ServerPhase::kStarting;
  double up_s = 0;
  std::vector<ModelStatus> models;  // by name; one that serves while another version is loaded stands twice
  // Names and values, ready to be shown.
  std::vector<std::pair<std::string, std::string>> load;
  std::vector<std::pair<std::string, std::string>> limits;
  std::vector<ModelLatency> latencies;
  std::map<std::string, int64_t> refusals;  // by reason
  std::vector<RecentError> our_faults;      // the latest first
  std::vector<RecentError> refused;
};

// Whether requests can be answered.
bool IsReady(const ServerStatus& status);

HttpPage LivePage();
HttpPage ReadyPage(const ServerStatus& status);   // 503 while it is not ready; the body says why
HttpPage ModelsPage(const ServerStatus& status);  // JSON
HttpPage StatusPage(const ServerStatus& status);  // HTML, in status_page.cc

const char* Name(ServerPhase phase);         // "starting", "serving", "draining"
const char* Name(ModelStatus::State state);  // "serving", "wrong", "loading", "failed"

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_SERVER_STATUS_H_
