// SPDX-License-Identifier: Apache-2.0
#include "server/oip/mask_lengths.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Numbers pass through memory of this size, in which those that the network has cut in two are whole.
constexpr int64_t kStagedNumbers = 1024;

// Calls visit(number) for each until it returns false.
template <typename Stored>
void VisitAs(const ByteSegments& bytes, absl::FunctionRef<bool(int64_t)> visit) {
  Stored staging[kStagedNumbers];
  const int64_t count = bytes.size_bytes() / static_cast<int64_t>(sizeof(Stored));
  for (int64_t done = 0; done < count;) {
    const int64_t take = std::min(count - done, kStagedNumbers);
    bytes.CopyTo(done * sizeof(Stored), take * sizeof(Stored),
                 std::as_writable_bytes(std::span(staging)).data());
    for (int64_t i = 0; i < take; ++i) {
      if (!visit(static_cast<int64_t>(staging[i]))) return;
    }
    done += take;
  }
}

void VisitNumbers(const WireTensor& tensor, absl::FunctionRef<bool(int64_t)> visit) {
  if (tensor.dtype == DType::kI64) return VisitAs<int64_t>(tensor.bytes, visit);
  if (tensor.dtype == DType::kI32) return VisitAs<int32_t>(tensor.bytes, visit);
  VisitAs<uint8_t>(tensor.bytes, visit);
}

}  // namespace

std::vector<int64_t> NumbersOf(const WireTensor& tensor) {
  std::vector<int64_t> numbers;
  numbers.reserve(tensor.bytes.size_bytes() / SizeOf(tensor.dtype));
  VisitNumbers(tensor, [&](int64_t number) {
    numbers.push_back(number);
    return true;
  });
  return numbers;
}

absl::StatusOr<std::vector<int64_t>> LengthsOfMask(const char* field, const WireTensor& mask) {
  const int64_t columns = mask.shape[1];
  std::vector<int64_t> lens(mask.shape[0], 0);
  absl::Status status;
  int64_t index = 0;
  VisitNumbers(mask, [&](int64_t number) {
    const int64_t row = index / columns, column = index % columns;
    ++index;
    if (number != 0 && number != 1) {
      status = absl::InvalidArgumentError(absl::StrCat(field, "[", row, ", ", column, "]: got ", number,
                                                       ", wanted 1 for a token or 0 for padding"));
    } else if (number == 1 && lens[row] != column) {
      status = absl::InvalidArgumentError(
          absl::StrCat(field, "[", row, ", ", column,
                       "]: got a 1 behind a 0, wanted the ones of a sequence first: pad on the "
                       "right, as tokenizers do with padding_side=\"right\", or send seq_lens"));
    }
    if (status.ok()) lens[row] += number;
    return status.ok();
  });
  if (!status.ok()) return status;
  for (size_t row = 0; row < lens.size(); ++row) {
    if (lens[row] > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, "[", row, "]: got no 1, wanted at least one token in each sequence"));
  }
  return lens;
}

}  // namespace headlight
