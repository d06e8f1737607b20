// SPDX-License-Identifier: Apache-2.0
//
// One RPC of any protocol, unary or a stream, from its headers until gRPC is done with it. gRPC's callback
// generic service hands it over before any message was read, so what need not be read is refused before its
// payload is.
#ifndef HEADLIGHT_SERVER_RPC_EXCHANGE_H_
#define HEADLIGHT_SERVER_RPC_EXCHANGE_H_

#include <grpcpp/alarm.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/memory/memory_budget.h"
#include "server/request/face.h"
#include "server/rpc/arrival_watch.h"
#include "server/rpc/call_conduct.h"
#include "server/rpc/call_ledger.h"
#include "server/rpc/exchange_state.h"
#include "server/rpc/pipeline.h"
#include "server/rpc/request_work.h"
#include "server/schedule/ticket.h"

namespace headlight {

// Reads, computations and writes overlap; mutex_ makes their reactions agree. gRPC's operations are started
// with it held, which is safe because their reactions never run inside of the calls that start them. OnDone
// comes when every reaction has returned; other threads hold a reference while they are inside. Nothing that
// gives memory back is destroyed with mutex_ held: whoever waits for memory would be called under it.
class Exchange final : public grpc::ServerGenericBidiReactor,
                       public LedgerEntry,
                       public MessageReader,
                       public std::enable_shared_from_this<Exchange> {
 public:
  // Owns itself until gRPC is done with it. All but the context must outlive it.
  static Exchange* Begin(const Pipeline& pipeline, CallLedger& ledger, ArrivalWatch& arrivals,
                         const Face& face, grpc::CallbackServerContext& context);

  Exchange(const Pipeline& pipeline, CallLedger& ledger, ArrivalWatch& arrivals, const Face& face,
           grpc::CallbackServerContext& context)
      : Exchange(pipeline, ledger, arrivals, face, context, context.peer()) {}

  void End() override;
  void EndIfUnread(TimePoint since) override;
  void EndReading(absl::Status why) override;
  void BreakOff() override;

 private:
  using State = ExchangeState<grpc::ByteBuffer, Refusal>;

  Exchange(const Pipeline& pipeline, CallLedger& ledger, ArrivalWatch& arrivals, const Face& face,
           grpc::CallbackServerContext& context, const std::string& peer);

  void Start();
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // A message has come that is request `number`.
  void Receive(uint64_t number, const grpc::ByteBuffer& message, Lease memory);
  // Request `number` has come back from the scheduler.
  void Answer(uint64_t number, RequestWork& work, std::unique_ptr<Ticket> ticket, Outcome outcome);
  void Refuse(uint64_t number, RequestWork& work, Refusal refusal);
  // Of a stream: reads on when the schedule and the memory have room for another request.
  void ReadWhenThereIsRoom();
  void ReadWhenThereIsMemory();
  void ReadInto(Lease memory);
  Lease TakeReadMemory();
  std::optional<Refusal> TakeMemoryOfMessage();
  // Why a request gets no ticket; before the scheduler has seen it only memory can be exhausted.
  Refusal WithoutTicket(absl::Status status) const;
  Refusal OutOfMemory(absl::Status status) const;
  void CancelRequests();

  // Tells state_ of an event and starts what it says.
  template <typename Event>
  void On(const Event& event);
  void Do(State::Step& step);  // requires mutex_

  const Pipeline& pipeline_;
  CallLedger& ledger_;
  ArrivalWatch& arrivals_;
  const Face& face_;
  grpc::CallbackServerContext& context_;
  std::optional<Refusal> refused_;  // by the headers, until Start
  CallConduct conduct_;
  const CallFacts facts_;
  const std::shared_ptr<ArrivalWatch::Connection> connection_;
  bool in_ledger_ = false;  // set once, before the first reaction

  std::shared_ptr<Exchange> self_;  // until OnDone
  std::mutex mutex_;
  // Guarded by mutex_, but for what a read or write under way uses:
  State state_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer outgoing_;
  Lease read_memory_;                           // for the message that is being read
  TimePoint writing_since_ = TimePoint::max();  // max: nothing is being written
  std::map<uint64_t, TicketHandle> under_way_;  // requests by number; handle 0: not yet submitted
  bool cancelled_ = false;
  bool done_ = false;     // context_ is gone, or about to go
  Lease granted_memory_;  // on its way from the budget to read_memory_
  grpc::Alarm granted_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_EXCHANGE_H_
