// SPDX-License-Identifier: Apache-2.0
//
// xds.service.orca.v3.OpenRcaService: load reports at intervals, for balancers that send this server few
// requests or want to know before they do.
#ifndef HEADLIGHT_SERVER_RPC_LOAD_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_LOAD_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

#include "core/runtime/periodic.h"
#include "server/observe/load_report.h"
#include "server/rpc/call_ledger.h"
#include "server/schedule/clock.h"
#include "server/security/gate.h"
#include "xds/service/orca/v3/orca.grpc.pb.h"

namespace headlight {

// Thread-safe. Streams are in the ledger: they begin when the server serves and end when it drains.
class LoadService final
    : public xds::service::orca::v3::OpenRcaService::WithRawCallbackMethod_StreamCoreMetrics<
          xds::service::orca::v3::OpenRcaService::Service> {
 public:
  // More streams are refused with RESOURCE_EXHAUSTED: a balancer has one for each of its connections.
  static constexpr size_t kMaxStreams = 64;

  // All must outlive this. No server may have it any more when it goes.
  LoadService(LoadReporter& reporter, CallLedger& ledger, const Clock& clock, const Gate& gate);

  // For callers whom `gate` admits; the request is an OrcaLoadReportRequest, errors as ReadControlMessage. At
  // the interval that is asked for, but not more than once a second and at least once an hour.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamCoreMetrics(grpc::CallbackServerContext* context,
                                                                const grpc::ByteBuffer* request) override;

 private:
  class Stream;

  void WriteDue();
  void Remove(Stream* stream);

  LoadReporter& reporter_;
  CallLedger& ledger_;
  const Clock& clock_;
  const Gate& gate_;
  std::mutex mutex_;
  std::map<Stream*, std::shared_ptr<Stream>> streams_;  // guarded by mutex_
  Periodic ticks_;                                      // last: it uses what is above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_LOAD_SERVICE_H_
