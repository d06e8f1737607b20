// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/proxy.h"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/rpc/target.h"

namespace headlight::client {
namespace {

// The first of these variables that is set and not empty, as gRPC reads them: in lower case alone.
std::string FirstSet(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* const value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return "";
}

// Four numbers, of which the first is 127; so that "127.0.0.1.example" is none of ours.
bool IsLocalIpv4(const std::string& host) {
  const std::vector<std::string> parts = absl::StrSplit(host, '.');
  return parts.size() == 4 && parts[0] == "127" &&
         std::all_of(parts.begin(), parts.end(), [](const auto& part) {
           return !part.empty() && part.size() <= 3 &&
                  part.find_first_not_of("0123456789") == std::string::npos;
         });
}

bool IsLocalHost(const std::string& host) {
  return absl::EqualsIgnoreCase(host, "localhost") || host == "::1" || IsLocalIpv4(host);
}

class ProxyNote final : public grpc::experimental::Interceptor {
 public:
  explicit ProxyNote(const std::string& note) : note_(note) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::POST_RECV_STATUS)) {
      grpc::Status& status = *methods->GetRecvStatus();
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
        status = grpc::Status(status.error_code(), absl::StrCat(status.error_message(), note_),
                              status.error_details());
      }
    }
    methods->Proceed();
  }

 private:
  const std::string& note_;  // the factory's, which lives as long as the channel
};

class ProxyNoteFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit ProxyNoteFactory(const std::string& proxy)
      : note_(absl::StrCat(" (through the proxy ", proxy,
                           " of the environment; no_proxy says which hosts are reached without)")) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new ProxyNote(note_);  // gRPC owns it
  }

 private:
  const std::string note_;
};

}  // namespace

bool IsLocalTarget(const std::string& target) {
  if (absl::StartsWith(target, "unix:") || absl::StartsWith(target, "unix-abstract:")) return true;
  const std::vector<std::string> addresses = absl::StrSplit(WithoutScheme(target), ',');
  return std::all_of(addresses.begin(), addresses.end(),
                     [](const std::string& address) { return IsLocalHost(HostOf(address)); });
}

std::string ProxyFor(const std::string& target) {
  std::string proxy = FirstSet({"grpc_proxy", "https_proxy", "http_proxy"});
  if (!absl::StartsWith(proxy, "http://")) return "";  // none that gRPC takes
  proxy = proxy.substr(std::string("http://").size());
  proxy = proxy.substr(0, proxy.find('/'));
  proxy = proxy.substr(proxy.rfind('@') + 1);  // behind user and password
  if (proxy.empty()) return "";
  const std::string host = HostOf(WithoutScheme(target));
  for (const std::string& entry : std::vector<std::string>(
           absl::StrSplit(FirstSet({"no_grpc_proxy", "no_proxy"}), ',', absl::SkipWhitespace()))) {
    if (absl::EndsWithIgnoreCase(host, std::string(absl::StripAsciiWhitespace(entry)))) return "";
  }
  return absl::StrCat("http://", proxy);
}

std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> MakeProxyNote(
    const std::string& proxy) {
  return std::make_unique<ProxyNoteFactory>(proxy);
}

}  // namespace headlight::client
