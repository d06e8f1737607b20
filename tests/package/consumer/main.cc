// SPDX-License-Identifier: Apache-2.0
//
// Uses the installed library in every way that links something. Nobody listens on port 1, so what it expects
// of a server is that there is none.
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "client/client.h"
#include "client/npy.h"
#include "headlight/client/client.h"  // the same file by its other name

namespace {

int Check(const char* what, const absl::Status& status, absl::StatusCode wanted) {
  if (status.code() == wanted) return 0;
  std::cerr << what << ": got " << status.ToString() << "\n";
  return 1;
}

}  // namespace

int main() {
  using std::chrono::seconds;
  const absl::StatusOr<headlight::Client> client =
      headlight::Client::Create("127.0.0.1:1", {.retry = {.max_attempts = 2}});
  if (!client.ok()) return Check("Create", client.status(), absl::StatusCode::kOk);
  const headlight::client::Tensor query{.shape = {1, 1, 2}, .values = {1, 2}};
  const headlight::AttendCall call{.model = "demo", .query = query.View()};
  constexpr auto kNobody = absl::StatusCode::kUnavailable;
  int failures = Check("Attend", client->Attend(call, seconds(20)).status(), kNobody);
  failures += Check("ListModels", client->ListModels(seconds(20)).status(), kNobody);
  failures += Check("CheckHealth", client->CheckHealth("", seconds(20)).status(), kNobody);
  const auto stream = client->OpenStream(seconds(20));
  if (!stream.ok()) return Check("OpenStream", stream.status(), absl::StatusCode::kOk);
  (*stream)->Attend(call, [](const absl::StatusOr<headlight::AttendReply>&) {});
  failures += Check("Finish", (*stream)->Finish(), kNobody);
  failures += Check("ReadNpyTensorFile", headlight::client::ReadNpyTensorFile("/no/file").status(),
                    absl::StatusCode::kNotFound);
  return failures;
}
