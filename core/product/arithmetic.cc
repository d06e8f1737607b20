// SPDX-License-Identifier: Apache-2.0
#include "core/product/arithmetic.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/product/operands.h"
#include "core/simd/cpu_features.h"
#include "core/simd/targets.h"

namespace headlight {
namespace {

// Whether bf16 products are faster than f32 ones.
bool Bf16IsFast() {
  static const bool is_fast =
      HasTiles() || (HasFastBf16Vectors() && kBrgemmProvider.Available(Precision::kBf16).ok());
  return is_fast;
}

// int8 leaves attention itself in the faster of the wider types.
Precision AttentionOperands(Precision precision) {
  if (precision != Precision::kInt8) return precision;
  return Bf16IsFast() ? Precision::kBf16 : Precision::kF32;
}

absl::Status CheckName(const std::string& name) {
  std::vector<std::string> names;
  for (const ProductKind& kind : ProductKinds()) {
    if (name.empty() || name == kind.name) return absl::OkStatus();
    names.emplace_back(kind.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("kernel: got '", name, "', wanted one of: ", absl::StrJoin(names, ", ")));
}

// The first kind that has the wanted name (any, if empty) and accepts the precision.
absl::StatusOr<const ProductKind*> ChooseKind(Precision precision, const std::string& name) {
  std::vector<std::string> refusals;
  for (const ProductKind& kind : ProductKinds()) {
    if (!name.empty() && name != kind.name) continue;
    absl::Status accepted = kind.Accepts(precision);
    // Whoever names a kernel wants it even where another precision would be faster.
    if (accepted.ok() && name.empty()) accepted = kind.Pays(precision);
    if (accepted.ok()) return &kind;
    refusals.push_back(absl::StrCat(kind.name, ": ", std::string(accepted.message())));
  }
  return absl::UnimplementedError(absl::StrCat("no kernel takes this layer in ", Name(precision), " (",
                                               absl::StrJoin(refusals, "; "), ")"));
}

absl::Status CheckDepth(Precision precision, int64_t depth) {
  if (precision != Precision::kInt8 || depth <= kMaxInt8Depth) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("sums of int8 products over a depth of ", depth,
                                               " may overflow, ", kMaxInt8Depth, " is the most that cannot"));
}

}  // namespace

absl::Status ProductKind::Accepts(Precision precision) const {
  HEADLIGHT_RETURN_IF_ERROR(provider.Available(AttentionOperands(precision)));
  return provider.Available(precision);
}

absl::Status ProductKind::Pays(Precision precision) const {
  if (precision == Precision::kF32) return absl::OkStatus();
  if (HasTiles() && fused) {
    return absl::UnimplementedError("AMX tiles make its products faster than vectors do");
  }
  if (precision == Precision::kInt8 || Bf16IsFast()) return absl::OkStatus();
  return absl::UnimplementedError("this CPU's bf16 vector products are slower than its f32 ones");
}

std::span<const ProductKind> ProductKinds() {
  static const ProductKind kKinds[] = {
      {"avx512-fused", "products, scores and exponentials in AVX-512 loops", kVectorProvider, /*fused=*/true},
      {"brgemm", "oneDNN BRGeMM ukernels", kBrgemmProvider, /*fused=*/false},
      {"matmul", "oneDNN matmul primitives", kMatmulProvider, /*fused=*/false},
  };
  return kKinds;
}

absl::StatusOr<Arithmetic> ChooseArithmetic(Precision precision, int64_t depth, const std::string& kind_name,
                                            Precision parameters) {
  MatchSimdToOneDnn();
  HEADLIGHT_RETURN_IF_ERROR(CheckName(kind_name));
  Arithmetic arithmetic{.precision = precision};
  const absl::Status depth_fits = CheckDepth(precision, depth);
  absl::StatusOr<const ProductKind*> kind = depth_fits.ok() ? ChooseKind(precision, kind_name) : depth_fits;
  if (!kind.ok() && precision != Precision::kF32) {
    arithmetic.note = absl::StrCat("computed in f32: ", std::string(kind.status().message()));
    arithmetic.precision = Precision::kF32;
    kind = ChooseKind(Precision::kF32, kind_name);
  }
  HEADLIGHT_RETURN_IF_ERROR(kind.status());
  arithmetic.kind = *kind;
  arithmetic.operands = AttentionOperands(arithmetic.precision);
  arithmetic.parameters = std::max(arithmetic.precision, parameters);  // the narrower one
  return arithmetic;
}

}  // namespace headlight
