// SPDX-License-Identifier: Apache-2.0
//
// Whether a repeated exchange gave the bits that were recorded, and if not, whether it had to.
#ifndef HEADLIGHT_CLIENT_RECORD_VERDICT_H_
#define HEADLIGHT_CLIENT_RECORD_VERDICT_H_

#include <string>

#include "headlight/v1/recording.pb.h"

namespace headlight::client {

enum class Outcome {
  kAgrees,     // every payload has the checksum that it had
  kDiffers,    // they differ, and nothing explains it
  kMayDiffer,  // they differ, but another model answered, or in a precision or by a kernel whose bits
               // are not the same everywhere
  kFailed,     // there is no reply to compare
};

struct Verdict {
  Outcome outcome = Outcome::kAgrees;
  std::string reason;  // which payloads differ, and what else does; empty where they agree
};

// f32 has the same bits on every x86 by the kernels avx512-fused and brgemm, so of the same model in f32 any
// difference is one too many. bf16 and int8 have the same bits on CPUs of the same instruction sets alone, and
// for the kernel matmul nothing is promised.
Verdict CompareExchanges(const v1::RecordedExchange& recorded, const v1::RecordedExchange& repeated);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RECORD_VERDICT_H_
