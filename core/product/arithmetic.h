// SPDX-License-Identifier: Apache-2.0
//
// What the products of a model are made by and in which precision: chosen once a model, here, and passed down
// to attention and to the feed-forward network.
#ifndef HEADLIGHT_CORE_PRODUCT_ARITHMETIC_H_
#define HEADLIGHT_CORE_PRODUCT_ARITHMETIC_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/product/gemm.h"
#include "core/product/precision.h"

namespace headlight {

// A way to make products, which is what users know as a kernel.
struct ProductKind {
  const char* name;
  const char* description;
  const GemmProvider& provider;
  bool fused;  // scores and their exponentials are made in one loop, where nothing else is done to them

  // OK, or UNIMPLEMENTED with a sentence that says why this build or CPU cannot compute so.
  absl::Status Accepts(Precision precision) const;
  // OK, or UNIMPLEMENTED with a sentence why another kind or precision is faster on this CPU. Asked after
  // Accepts said OK, and only where nobody has named the kind.
  absl::Status Pays(Precision precision) const;
};

// All kinds, fastest first.
std::span<const ProductKind> ProductKinds();

struct Arithmetic {
  const ProductKind* kind = nullptr;
  Precision precision = Precision::kF32;  // of projections and feed-forward networks
  Precision operands = Precision::kF32;   // of attention itself, between the projections: kF32 or kBf16
  // What parameters of projections and feed-forward networks are held in: `precision` or a narrower one.
  Precision parameters = Precision::kF32;
  // Where `precision` is not the one that was asked for: why, in a sentence. Else empty.
  std::string note;

  const GemmProvider& provider() const { return kind->provider; }
};

// The fastest kind that accepts the precision on this CPU, or the one of that name; f32 where none does.
// `depth` is that of the deepest product of the model; `parameters` are held so where that is narrower
// than what they are multiplied in. INVALID_ARGUMENT: there is no kind of that name (the
// message lists them). UNIMPLEMENTED: no kind, or not the named one, accepts even f32; the message holds each
// refusal.
absl::StatusOr<Arithmetic> ChooseArithmetic(Precision precision, int64_t depth,
                                            const std::string& kind_name = "",
                                            Precision parameters = Precision::kF32);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_ARITHMETIC_H_
