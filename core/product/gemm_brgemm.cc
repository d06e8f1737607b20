// SPDX-License-Identifier: Apache-2.0
//
// Matrix products through oneDNN's BRGeMM ukernels: sequential, no threading runtime, no set-up cost per
// call. This is the only file that knows the ukernel API, which is experimental and changes between oneDNN
// releases.
#include <algorithm>
#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/product/gemm.h"
#include "core/runtime/idle_calls.h"
#include "core/simd/cpu_features.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "oneapi/dnnl/dnnl_config.h"
#ifdef DNNL_EXPERIMENTAL_UKERNEL
#include "oneapi/dnnl/dnnl_ukernel.hpp"
#endif

namespace headlight {
namespace {

#ifdef DNNL_EXPERIMENTAL_UKERNEL

using dnnl::memory;
using dnnl::ukernel::brgemm;

struct DataTypes {
  memory::data_type a, b, c;
};

DataTypes TypesOf(Precision operands) {
  using Type = memory::data_type;
  switch (operands) {
    case Precision::kBf16:
      return {Type::bf16, Type::bf16, Type::f32};
    case Precision::kInt8:
      return {Type::u8, Type::s8, Type::s32};
    case Precision::kF32:
      break;
  }
  return {Type::f32, Type::f32, Type::f32};
}

brgemm Compile(int64_t rows, const GemmShape& shape) {
  const DataTypes types = TypesOf(shape.operands);
  brgemm kernel(rows, shape.n, shape.k, /*batch_size=*/1, shape.lda, shape.ldb, shape.ldc, types.a, types.b,
                types.c);
  kernel.set_add_C(shape.accumulate || shape.bias);
  kernel.finalize();
  kernel.generate();
  return kernel;
}

// The ukernel that this thread's AMX tiles are configured for, 0 if that is not known. Configuring them anew
// costs as much as a small product.
thread_local uint64_t configured_id = 0;
// Whether this thread has configured tiles and not released them since.
thread_local bool holds_tiles = false;

void Configure(const brgemm& kernel, uint64_t id) {
  if (configured_id == id) return;
  kernel.set_hw_context();  // where there are no tiles this does nothing
  configured_id = id;
  holds_tiles = true;
}

// Tiles are 8 KiB that the kernel saves whenever it takes the CPU from this thread, and keep a CPU that
// sleeps from sleeping deeply: threads that go idle let go of them.
void ReleaseTiles() {
  if (!holds_tiles) return;
  holds_tiles = false;
  configured_id = 0;
  dnnl_brgemm_release_hw_context();  // must not throw; if it fails the tiles stay, which costs only speed
}

// Ids of ukernels, never used twice.
uint64_t TakeIds(uint64_t count) {
  static std::atomic<uint64_t> next = 1;
  return next.fetch_add(count, std::memory_order_relaxed);
}

void BeginWork() { configured_id = 0; }

// A ukernel has a fixed number of rows, so a call is cut into the largest ones that fit. All row counts up to
// 16 exist because a short call costs one pass over B whatever its rows: 15 rows in one call beat 8 + 4 + 2 +
// 1 nearly fourfold.
class BrgemmGemm final : public Gemm {
 public:
  explicit BrgemmGemm(const GemmShape& shape) : Gemm(shape) {
    if (HasTiles()) CallWhenIdle(&ReleaseTiles);
    kernels_.reserve(kRows.size());
    for (int64_t rows : kRows) {
      kernels_.push_back(Compile(rows, shape));
      scratch_bytes_ = std::max<int64_t>(scratch_bytes_, kernels_.back().get_scratchpad_size());
    }
  }

  void Run(int64_t rows, const void* a, const void* b, void* c, std::byte* scratch, const float* bias,
           Ahead) const override {
    if (shape_.bias) FillRows(bias, {static_cast<float*>(c), rows, shape_.n, shape_.ldc});
    static const std::vector<std::pair<memory::dim, memory::dim>> kOneBlock = {{0, 0}};
    const auto* a_row = static_cast<const std::byte*>(a);
    auto* c_row = static_cast<std::byte*>(c);
    for (size_t i = 0; rows > 0; ++i) {
      if (rows < kRows[i]) continue;
      Configure(kernels_[i], first_id_ + i);
      for (; rows >= kRows[i]; rows -= kRows[i]) {
        kernels_[i].execute(a_row, b, kOneBlock, c_row, scratch);
        a_row += kRows[i] * shape_.lda * OperandBytes(shape_.operands);
        c_row += kRows[i] * shape_.ldc * int64_t{sizeof(float)};  // as wide as int32
      }
    }
  }

  // A few rows go through all panels before the next ones, so that their sums stay in the L1 cache.
  void RunPanels(int64_t rows, const void* a, const void* const* b, int64_t num_panels, void* c,
                 std::byte* scratch) const override {
    const auto* a_row = static_cast<const std::byte*>(a);
    auto* c_row = static_cast<std::byte*>(c);
    for (int64_t done = 0; done < rows; done += kPanelRows) {
      const int64_t some = std::min(kPanelRows, rows - done);
      Gemm::RunPanels(some, a_row + done * shape_.lda * OperandBytes(shape_.operands), b, num_panels,
                      c_row + done * shape_.ldc * int64_t{sizeof(float)}, scratch);
    }
  }

  int64_t scratch_bytes() const override { return scratch_bytes_; }

 private:
  static constexpr std::array<int64_t, 20> kRows = {256, 128, 64, 32, 16, 15, 14, 13, 12, 11,
                                                    10,  9,   8,  7,  6,  5,  4,  3,  2,  1};
  static constexpr int64_t kPanelRows = 64;
  const uint64_t first_id_ = TakeIds(kRows.size());
  std::vector<brgemm> kernels_;  // one for each entry of kRows
  int64_t scratch_bytes_ = 0;
};

absl::Status BrgemmAvailable(Precision operands) {
  if (operands == Precision::kInt8 && !HasVnni()) {
    return absl::UnimplementedError("this CPU has no VNNI, without which int8 products saturate");
  }
  try {
    Compile(1, {.operands = operands, .n = 16, .k = 64, .lda = 64, .ldb = 16, .ldc = 16});
  } catch (const dnnl::error& error) {
    return absl::UnimplementedError(absl::StrCat("oneDNN has no ", Name(operands), " ukernel for this CPU (",
                                                 operands == Precision::kF32 ? "AVX2" : "AVX-512 BF16",
                                                 " is the least it takes)"));
  }
  return absl::OkStatus();
}

std::unique_ptr<const Gemm> MakeBrgemm(const GemmShape& shape) {
  // A ukernel sums from 0 and adds C to the total, which is another rounding than a chain that begins with it.
  if (shape.operands == Precision::kF32 && (shape.accumulate || shape.bias)) {
    std::unique_ptr<const Gemm> gemm = MakeVectorGemm(shape);
    if (gemm != nullptr) return gemm;
  }
  return std::make_unique<BrgemmGemm>(shape);
}

#else

absl::Status BrgemmAvailable(Precision) {
  return absl::UnimplementedError("this oneDNN was built without the ukernel API");
}
std::unique_ptr<const Gemm> MakeBrgemm(const GemmShape&) { return nullptr; }
void BeginWork() {}

#endif

}  // namespace

const GemmProvider kBrgemmProvider = {"brgemm", BrgemmAvailable, MakeBrgemm, BeginWork};

}  // namespace headlight
