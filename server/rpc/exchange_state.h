// SPDX-License-Identifier: Apache-2.0
//
// What an exchange may do next: one RPC, unary or a stream, as a machine of events and steps. Knows no gRPC,
// so that tests and ThreadSanitizer can watch it with a transport of their own.
#ifndef HEADLIGHT_SERVER_RPC_EXCHANGE_STATE_H_
#define HEADLIGHT_SERVER_RPC_EXCHANGE_STATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "server/request/exchange_rules.h"

namespace headlight {

// `Reply` is what is written, `Verdict` why an exchange ends; a default Verdict means that all is well. Both
// are movable. Not thread-safe: whoever owns it locks around it, and starts the step that each event returns
// before the next event. At most one read and one write are under way at any time, and there is one finish,
// the last step of all.
template <typename Reply, typename Verdict>
class ExchangeState {
 public:
  // What is to be started now.
  struct Step {
    bool read = false;
    std::optional<Reply> write;
    std::optional<Verdict> finish;  // with `write`: in one go
    std::vector<Reply> dropped;     // nobody will read them; to be destroyed out of any lock
  };

  explicit ExchangeState(const ExchangeRules& rules) : rules_(rules) {}

  // --- events ---

  Step Begin() { return Next(); }

  // A message has arrived. Its number, if it is wanted: a request is under way until Answer or Fail. Nothing:
  // it came when the exchange had ended already. The step comes with Proceed, once the request has been
  // started.
  std::optional<uint64_t> MessageCame() {
    reading_ = false;
    if (finished_ || !WantsMore()) return std::nullopt;
    ++unanswered_;
    ++num_read_;
    return num_read_ - 1;
  }

  Step Proceed() { return Next(); }

  // The caller will send no more, or the transport broke: Cancelled tells.
  Step NoMoreMessages() {
    reading_ = false;
    caller_is_done_ = true;
    return Next();
  }

  // Request `number` has its reply, which may be one that tells an error.
  Step Answer(uint64_t number, Reply reply) {
    Queue(number, std::move(reply));
    return Next();
  }

  // Request `number` ends the exchange: no reply could tell of it. What else is under way is answered first.
  Step Fail(uint64_t number, Verdict verdict) {
    if (!ending_with_) ending_with_ = std::move(verdict);
    Queue(number, std::nullopt);
    return Next();
  }

  Step WriteDone(bool ok) {
    writing_ = false;
    --unanswered_;
    if (!ok) Break();
    return Next();
  }

  // Nobody listens any more: replies go nowhere, but requests under way must still come back.
  Step Cancelled() {
    Break();
    return Next();
  }

  // Reads nothing more, answers what was read, then ends with `verdict`.
  Step End(Verdict verdict) {
    if (!ending_with_) ending_with_ = std::move(verdict);
    return Next();
  }

  // While held, no read begins.
  Step HoldReads(bool held) {
    held_ = held;
    return Next();
  }

  // --- what it is at ---

  bool finished() const { return finished_; }
  uint64_t num_read() const { return num_read_; }
  bool broken() const { return broken_; }
  int unanswered() const { return unanswered_; }  // requests whose replies are neither written nor lost

 private:
  bool WantsMore() const {
    return !caller_is_done_ && !ending_with_ && !broken_ && !(rules_.unary && num_read_ > 0);
  }

  void Break() {
    broken_ = true;
    unanswered_ -= static_cast<int>(replies_.size());
    for (auto& [place, reply] : replies_) {
      if (reply) dropped_.push_back(*std::move(reply));
    }
    replies_.clear();
  }

  void Queue(uint64_t number, std::optional<Reply> reply) {
    if (broken_) {
      --unanswered_;
      if (reply) dropped_.push_back(*std::move(reply));
      return;
    }
    replies_.emplace(rules_.order == ReplyOrder::kAsReady ? num_answered_ : number, std::move(reply));
    ++num_answered_;
  }

  // What is next in the order and can only be passed over.
  void PassOver() {
    while (!replies_.empty() && replies_.begin()->first == num_passed_ && !replies_.begin()->second) {
      replies_.erase(replies_.begin());
      ++num_passed_;
      --unanswered_;
    }
  }

  Step Next() {
    Step step;
    step.dropped.swap(dropped_);
    if (finished_) return step;
    PassOver();
    if (!writing_ && !replies_.empty() && replies_.begin()->first == num_passed_) {
      step.write = *std::move(replies_.begin()->second);
      replies_.erase(replies_.begin());
      ++num_passed_;
      writing_ = true;
      if (rules_.unary) {
        finished_ = true;
        step.finish.emplace();
        return step;
      }
    }
    if (!reading_ && !held_ && WantsMore() && unanswered_ < rules_.window) {
      reading_ = true;
      step.read = true;
    }
    if (!WantsMore() && unanswered_ == 0 && !writing_) {
      finished_ = true;
      step.finish.emplace(ending_with_ ? *std::exchange(ending_with_, std::nullopt) : Verdict());
    }
    return step;
  }

  const ExchangeRules rules_;
  // That wait for the one being written, by their place in the order; without a reply: to be passed over.
  std::map<uint64_t, std::optional<Reply>> replies_;
  std::vector<Reply> dropped_;
  uint64_t num_read_ = 0;
  uint64_t num_answered_ = 0;
  uint64_t num_passed_ = 0;  // places of the order that are behind us
  int unanswered_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool held_ = false;
  bool caller_is_done_ = false;
  bool broken_ = false;  // cancelled, or cannot be written to
  bool finished_ = false;
  std::optional<Verdict> ending_with_;  // why no more is read
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_EXCHANGE_STATE_H_
