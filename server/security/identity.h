// SPDX-License-Identifier: Apache-2.0
//
// Who calls, and what they may.
#ifndef HEADLIGHT_SERVER_SECURITY_IDENTITY_H_
#define HEADLIGHT_SERVER_SECURITY_IDENTITY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "server/models/model_rights.h"
#include "server/schedule/ticket.h"
#include "server/security/rate_limit.h"

namespace headlight {

// Immutable, and shared by all calls that the same token opened: they keep it however tables change.
struct Identity {
  std::string name;    // of the token, for the operator
  std::string tenant;  // by whom requests are counted and logged; empty: nobody in particular
  Caller caller;       // of the tenant: its share of the compute time
  ModelRights models = ModelRights::None();
  bool may_control_models = false;
  std::shared_ptr<RateLimit> rate;  // null: none
};

// The same for the same tenant in every process and every table, and never that of Caller{}.
uint64_t CallerIdOf(const std::string& tenant);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_IDENTITY_H_
