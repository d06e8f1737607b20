// SPDX-License-Identifier: Apache-2.0
//
// A small HTTP server for operators: pages by path, made anew for each GET. Knows nothing of what is on them.
#ifndef HEADLIGHT_SERVER_OBSERVE_ADMIN_HTTP_H_
#define HEADLIGHT_SERVER_OBSERVE_ADMIN_HTTP_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace headlight {

struct HttpPage {
  int status = 200;
  std::string type;  // for Content-Type
  std::string body;
};

// Listens and answers from Listen to destruction. Only GET, only the paths it was given, no files, no
// scripts.
class AdminHttp {
 public:
  using MakePage = std::function<HttpPage()>;  // called from several threads at once

  // `listen` is HOST:PORT; port 0 picks a free one. INVALID_ARGUMENT: it has no such form. UNAVAILABLE: it
  // cannot listen there. Both name --admin-listen.
  static absl::StatusOr<std::unique_ptr<AdminHttp>> Listen(const std::string& listen,
                                                           std::map<std::string, MakePage> pages);
  ~AdminHttp();

  int port() const;

  // Callers that are silent, or read slowly, are cut off after so long, and so many of them hold up nobody
  // else.
  static constexpr int kTimeoutMs = 3000;
  static constexpr int kThreads = 16;

 private:
  class Impl;
  explicit AdminHttp(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_ADMIN_HTTP_H_
