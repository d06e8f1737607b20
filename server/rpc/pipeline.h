// SPDX-License-Identifier: Apache-2.0
//
// What the way of a request leads through: everything that exchanges work with.
#ifndef HEADLIGHT_SERVER_RPC_PIPELINE_H_
#define HEADLIGHT_SERVER_RPC_PIPELINE_H_

#include <cstdint>

#include "server/memory/memory_budget.h"
#include "server/models/registry.h"
#include "server/observe/load_report.h"
#include "server/observe/request_log.h"
#include "server/rpc/connection_book.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"
#include "server/security/gate.h"

namespace headlight {

// All of it must outlive the exchanges.
struct Pipeline {
  const ModelRegistry& registry;
  const Gate& gate;
  Scheduler& scheduler;
  const Clock& clock;
  MemoryBudget& memory;
  RequestLog& requests;
  int64_t max_message_bytes = 0;
  int64_t max_header_bytes = 0;     // of one call, as HTTP/2 counts them; 0: any
  int64_t default_deadline_us = 0;  // of unary requests that come without one; 0: none
  int64_t max_deadline_us = 0;      // what a later deadline is cut to; 0: no limit
  int compute_threads = 1;
  LoadReporter* load = nullptr;           // what replies tell of the load; null: nothing
  ConnectionBook* connections = nullptr;  // null: nobody watches connections, as for calls within the process
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_PIPELINE_H_
