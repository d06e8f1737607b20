// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/traceparent.h"

#include <cstddef>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace headlight::client {

absl::Status CheckTraceparent(const std::string& traceparent) {
  if (traceparent.empty()) return absl::OkStatus();
  constexpr char kForm[] =
      "00-tttttttttttttttttttttttttttttttt-ssssssssssssssss-ff";  // letters: any hex digit
  constexpr size_t kLength = sizeof(kForm) - 1;
  bool matches = traceparent.size() == kLength;
  for (size_t i = 0; matches && i < kLength; ++i) {
    const char c = traceparent[i];
    const bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    matches = kForm[i] == '-' || kForm[i] == '0' ? c == kForm[i] : is_hex;
  }
  const bool is_zero = matches && (traceparent.find_first_not_of('0', 3) == 35 ||
                                   traceparent.find_first_not_of('0', 36) == 52);
  if (matches && !is_zero) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("traceparent: got \"", absl::CHexEscape(traceparent.substr(0, 2 * kLength)),
                   "\", wanted 00-TRACE-SPAN-FLAGS of 32, 16 and 2 hex digits, the first two not all zero"));
}

void SetTraceparent(grpc::ClientContext& context, const std::string& traceparent) {
  if (!traceparent.empty()) context.AddMetadata("traceparent", traceparent);
}

}  // namespace headlight::client
