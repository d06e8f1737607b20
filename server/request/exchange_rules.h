// SPDX-License-Identifier: Apache-2.0
//
// How the requests and replies of one RPC follow each other; each method of each protocol has its own.
#ifndef HEADLIGHT_SERVER_REQUEST_EXCHANGE_RULES_H_
#define HEADLIGHT_SERVER_REQUEST_EXCHANGE_RULES_H_

#include <cstdint>

namespace headlight {

enum class ReplyOrder : uint8_t { kAsReady, kAsRequested };

struct ExchangeRules {
  bool unary = true;  // one request, one reply, which goes out together with the status
  int window = 1;     // requests read before the first of them is answered
  ReplyOrder order = ReplyOrder::kAsReady;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_EXCHANGE_RULES_H_
