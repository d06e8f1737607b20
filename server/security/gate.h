// SPDX-License-Identifier: Apache-2.0
//
// Who calls: from the headers of a call to an identity, before anything of a message is read.
#ifndef HEADLIGHT_SERVER_SECURITY_GATE_H_
#define HEADLIGHT_SERVER_SECURITY_GATE_H_

#include <grpcpp/support/string_ref.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/security/identity.h"
#include "server/security/token_table.h"

namespace headlight {

// The headers of a call as gRPC gives them.
using CallHeaders = std::multimap<grpc::string_ref, grpc::string_ref>;

// Thread-safe.
class Gate {
 public:
  // Without tokens everybody is one and the same: sees every model, has no name.
  explicit Gate(bool anybody_may_control_models = false);

  // From now on calls need one of these tokens. Calls under way keep the identity that they have.
  void SetTokens(std::shared_ptr<const TokenTable> tokens);

  // Null: none were ever set.
  std::shared_ptr<const TokenTable> tokens() const;

  // Whom "authorization: Bearer TOKEN" stands for. UNAUTHENTICATED, without a word of what is wrong: there is
  // no such header, or more than one, or another scheme, or a token that nobody has.
  absl::StatusOr<std::shared_ptr<const Identity>> Admit(const CallHeaders& headers) const;

  int64_t num_refused() const { return num_refused_.load(std::memory_order_relaxed); }  // by Admit, ever

 private:
  const std::shared_ptr<const Identity> anybody_;
  mutable std::mutex mutex_;
  std::shared_ptr<const TokenTable> tokens_;  // guarded by mutex_
  mutable std::atomic<int64_t> num_refused_{0};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_GATE_H_
