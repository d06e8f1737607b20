// SPDX-License-Identifier: Apache-2.0
//
// What computing a request takes, in the closed forms that the schedule learns times for.
#ifndef HEADLIGHT_SERVER_BATCH_WORK_COST_H_
#define HEADLIGHT_SERVER_BATCH_WORK_COST_H_

#include <cstdint>

#include "core/attention/batch.h"
#include "server/batch/batch_input.h"
#include "server/models/registry.h"
#include "server/schedule/cost_model.h"
#include "server/schedule/ticket.h"

namespace headlight {

// Keys that the queries of a sequence see, summed over its queries: what is left of q_len * kv_len by
// `visibility`. Exact and O(1).
double VisiblePairs(int64_t q_len, int64_t kv_len, const Visibility& visibility);

WorkCost WorkCostOf(const BatchInput& input);

// Models of one class cost alike: one class for each model that is loaded.
uint64_t CostClassOf(const LoadedModel& model);

// What requests to a model are taken to need before one was computed. A batch of a few tokens takes as long
// as reading the weights does.
CostPrior CostPriorOf(const ModelConfig& config, Precision parameters);

// Notes in `ticket` what the schedule goes by and what follows from `input` alone: cost, class, tokens, and
// what it may share a batch with.
void DescribeWork(const BatchInput& input, Ticket& ticket);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_WORK_COST_H_
