// SPDX-License-Identifier: Apache-2.0
//
// A server for the client's tests: answers on a free local port, echoes the query as the output, remembers
// what it was asked, and fails or waits when a test tells it to.
#ifndef HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_
#define HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"

namespace headlight::testing {

// Holds three models: "demo", embed_dim 4; "encoder", which begins at 50 token ids; and "cross", embed_dim 4,
// kdim 3, vdim 2, all other fields set.
// Thread-safe.
class FakeServer : private v1::AttentionService::Service {
 public:
  // What Attend does instead of echoing; runs on a server thread, many at once.
  using AttendHandler =
      std::function<grpc::Status(grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&)>;

  struct Options {
    int port = 0;                                          // 0: a free one
    std::shared_ptr<grpc::ServerCredentials> credentials;  // null: no TLS
  };

  explicit FakeServer(AttendHandler handler = Echo) : FakeServer(std::move(handler), Options()) {}
  FakeServer(AttendHandler handler, const Options& options);
  ~FakeServer() override;

  std::string target() const;
  int port() const { return port_; }
  void SetServing(bool serving);  // of its health service

  std::vector<v1::AttendRequest> requests() const;
  std::set<std::string> peers() const;              // addresses that Attend was called from
  std::vector<std::string> authorizations() const;  // metadata "authorization" of each call, or ""
  std::vector<std::string> announced() const;       // "headlight-message-bytes", likewise
  std::vector<std::string> traceparents() const;    // "traceparent", likewise

  // The default handler: `output` is the query, or a zero for each token id (for each sequence of dense ones
  // if they are to be pooled); weights, if asked for, are FULL and GRID [1, 1, 1, 2] of 0.25 and 0.75, TOP_K
  // 0.75 of key 5 and none, SUMMARY 0.5, 1, 0.25, 0.125, 0, 2 with 1.5 and 0.5 received; the time budget is
  // queue 100, pack 20, compute 200 of 240 predicted, unpack 30, total 400 us in a batch of 2 requests.
  static grpc::Status Echo(grpc::ServerContext& context, const v1::AttendRequest& request,
                           v1::AttendResponse& response);

  // The same with the checksum of each payload.
  static grpc::Status EchoWithChecksums(grpc::ServerContext& context, const v1::AttendRequest& request,
                                        v1::AttendResponse& response);

  // A handler that waits until the caller has given up.
  static grpc::Status UntilCancelled(grpc::ServerContext& context, const v1::AttendRequest&,
                                     v1::AttendResponse&);

 private:
  grpc::Status Attend(grpc::ServerContext* context, const v1::AttendRequest* request,
                      v1::AttendResponse* response) override;
  // Handles one message after the other, so replies are in order; a handler's error becomes the message's,
  // with the retry delay and the reason that the handler has put into the response.
  grpc::Status AttendStream(grpc::ServerContext* context,
                            grpc::ServerReaderWriter<v1::AttendResponse, v1::AttendRequest>* stream) override;
  void Remember(grpc::ServerContext& context, const v1::AttendRequest& request);
  // Says 2 and 1 GFLOP, 3000 and 400 bytes, 5 ms of computation after 2 ms in the queue; admits what has 7
  // ms.
  grpc::Status EstimateCost(grpc::ServerContext* context, const v1::EstimateCostRequest* request,
                            v1::EstimateCostResponse* response) override;
  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;
  // Loads or unloads nothing, but refuses a model that GetModel does not know.
  grpc::Status LoadModel(grpc::ServerContext* context, const v1::LoadModelRequest* request,
                         v1::LoadModelResponse* response) override;
  grpc::Status UnloadModel(grpc::ServerContext* context, const v1::UnloadModelRequest* request,
                           v1::UnloadModelResponse* response) override;

  const AttendHandler handler_;
  mutable std::mutex mutex_;
  std::vector<v1::AttendRequest> requests_;
  std::set<std::string> peers_;
  std::vector<std::string> authorizations_;
  std::vector<std::string> announced_;
  std::vector<std::string> traceparents_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_
