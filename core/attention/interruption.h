// SPDX-License-Identifier: Apache-2.0
//
// What long work asks between two tiles, where it is about sequences of a batch.
#ifndef HEADLIGHT_CORE_ATTENTION_INTERRUPTION_H_
#define HEADLIGHT_CORE_ATTENTION_INTERRUPTION_H_

#include <cstdint>
#include <span>

#include "core/attention/batch.h"
#include "core/runtime/compute_arena.h"
#include "core/runtime/interruption.h"

namespace headlight {

// Of the sequences whose rows a body of the arena works on.
class BatchInterruption final : public Interruption {
 public:
  BatchInterruption(ComputeArena& arena, std::span<const SequenceOptions> sequences)
      : arena_(arena), sequences_(sequences) {}

  // The sequences of the rows [first_row, first_row + rows) of a batch; cu_lens is one of its lists.
  BatchInterruption(ComputeArena& arena, std::span<const SequenceOptions> sequences,
                    std::span<const int64_t> cu_lens, int64_t first_row, int64_t rows)
      : BatchInterruption(arena, SequencesOf(sequences, cu_lens, first_row, rows)) {}

  bool MayGoOn() const override {
    if (!AnyoneWaits(sequences_)) return false;
    arena_.Checkpoint();
    return true;
  }

 private:
  ComputeArena& arena_;
  const std::span<const SequenceOptions> sequences_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_INTERRUPTION_H_
