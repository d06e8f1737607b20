// SPDX-License-Identifier: Apache-2.0
#include "server/observe/trace_context.h"

#include <algorithm>
#include <cstdint>
#include <random>

namespace headlight {
namespace {

constexpr size_t kHeaderLength = 55;  // of version 00; later ones may go on behind it
constexpr char kHexDigits[] = "0123456789abcdef";

bool IsHex(std::string_view text) { return text.find_first_not_of(kHexDigits) == std::string_view::npos; }

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

// Names spans, which must differ and need not be secret.
uint64_t RandomNumber() {
  thread_local std::mt19937_64 generator([] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }());
  return generator();
}

}  // namespace

std::string TraceContext::ToHeader() const {
  std::string header = "00-";
  header.append(trace_id.data(), trace_id.size()).append(1, '-');
  header.append(span_id.data(), span_id.size()).append(1, '-');
  return header.append(flags.data(), flags.size());
}

std::optional<TraceContext> ParseTraceparent(std::string_view header) {
  if (header.size() < kHeaderLength) return std::nullopt;
  const std::string_view version = header.substr(0, 2);
  const std::string_view trace_id = header.substr(3, 32);
  const std::string_view span_id = header.substr(36, 16);
  const std::string_view flags = header.substr(53, 2);
  if (header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  if (!IsHex(version) || !IsHex(trace_id) || !IsHex(span_id) || !IsHex(flags)) return std::nullopt;
  if (version == "ff" || IsZero(trace_id) || IsZero(span_id)) return std::nullopt;
  if (header.size() > kHeaderLength && (version == "00" || header[kHeaderLength] != '-')) return std::nullopt;
  TraceContext context;
  std::copy(trace_id.begin(), trace_id.end(), context.trace_id.begin());
  std::copy(span_id.begin(), span_id.end(), context.span_id.begin());
  std::copy(flags.begin(), flags.end(), context.flags.begin());
  return context;
}

TraceContext ChildOf(const TraceContext& parent) {
  TraceContext child = parent;
  uint64_t number = 0;
  while (number == 0) number = RandomNumber();
  for (char& digit : child.span_id) {
    digit = kHexDigits[number & 15];
    number >>= 4;
  }
  return child;
}

}  // namespace headlight
