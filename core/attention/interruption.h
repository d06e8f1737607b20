// SPDX-License-Identifier: Apache-2.0
//
// What long work asks between two tiles.
#ifndef HEADLIGHT_CORE_ATTENTION_INTERRUPTION_H_
#define HEADLIGHT_CORE_ATTENTION_INTERRUPTION_H_

#include <cstdint>
#include <span>

#include "core/attention/batch.h"
#include "core/runtime/compute_arena.h"

namespace headlight {

// Of one body of an arena and the sequences whose rows it works on. To be asked about every 100 us.
class Interruption {
 public:
  Interruption(ComputeArena& arena, std::span<const SequenceOptions> sequences)
      : arena_(arena), sequences_(sequences) {}

  // The sequences of the rows [first_row, first_row + rows) of a batch; cu_lens is one of its lists.
  Interruption(ComputeArena& arena, std::span<const SequenceOptions> sequences,
               std::span<const int64_t> cu_lens, int64_t first_row, int64_t rows)
      : Interruption(arena, SequencesOf(sequences, cu_lens, first_row, rows)) {}

  // False once nobody waits for any of the sequences: the body then ends as it is, since what it leaves is
  // unspecified. Else waits while the arena is paused. A few loads.
  bool MayGoOn() const {
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
