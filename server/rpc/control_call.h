// SPDX-License-Identifier: Apache-2.0
//
// One call of a method about the server and its models. As for an exchange, who calls is looked at before a
// message is read, and what arrives is counted; nothing is scheduled.
#ifndef HEADLIGHT_SERVER_RPC_CONTROL_CALL_H_
#define HEADLIGHT_SERVER_RPC_CONTROL_CALL_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/arrival_watch.h"
#include "server/rpc/call_conduct.h"
#include "server/rpc/control_method.h"
#include "server/rpc/pipeline.h"

namespace headlight {

class ControlCall final : public grpc::ServerGenericBidiReactor,
                          public MessageReader,
                          public std::enable_shared_from_this<ControlCall> {
 public:
  // Owns itself until gRPC is done with it. All but the context must outlive it.
  static ControlCall* Begin(const Pipeline& pipeline, ArrivalWatch& arrivals, const ControlMethod& method,
                            grpc::CallbackServerContext& context);

  ControlCall(const Pipeline& pipeline, ArrivalWatch& arrivals, const ControlMethod& method,
              grpc::CallbackServerContext& context)
      : ControlCall(pipeline, arrivals, method, context, context.peer()) {}

  void EndReading(absl::Status why) override;
  void BreakOff() override;

 private:
  ControlCall(const Pipeline& pipeline, ArrivalWatch& arrivals, const ControlMethod& method,
              grpc::CallbackServerContext& context, const std::string& peer);

  void Start();
  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  absl::Status Admit();
  // Once, and only by who has taken the message: nobody else finishes the call then.
  void Reply(absl::StatusOr<grpc::ByteBuffer> response);
  bool TakeMessage(bool ok);  // false: reading was given up

  const Pipeline& pipeline_;
  ArrivalWatch& arrivals_;
  const ControlMethod& method_;
  grpc::CallbackServerContext& context_;
  const std::shared_ptr<ArrivalWatch::Connection> connection_;
  CallConduct conduct_;
  ControlMethod::Who who_;
  grpc::ByteBuffer message_;
  grpc::ByteBuffer response_;
  std::shared_ptr<ControlCall> self_;  // until OnDone
  std::mutex mutex_;
  // Guarded by mutex_:
  bool reading_ = false;  // and nothing has given it up
  bool was_read_ = false;
  bool cancelled_ = false;
  bool done_ = false;  // context_ is gone, or about to go
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONTROL_CALL_H_
