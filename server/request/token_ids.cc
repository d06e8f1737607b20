// SPDX-License-Identifier: Apache-2.0
#include "server/request/token_ids.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Ids pass through memory of this size, in which those that the network has cut in two are whole.
constexpr int64_t kStagingBytes = int64_t{8} << 10;

// Appends `count` ids beginning with `first`; returns how many were in [0, limit) before the first that is
// not, whose value is then in `wrong`.
template <typename Stored>
int64_t AppendIds(const ByteSegments& from, int64_t first, int64_t count, int64_t limit,
                  std::vector<int32_t>& to, int64_t& wrong) {
  constexpr int64_t kSize = sizeof(Stored);
  constexpr int64_t kStagedIds = kStagingBytes / kSize;
  Stored staging[kStagedIds];
  for (int64_t done = 0; done < count;) {
    const int64_t take = std::min(count - done, kStagedIds);
    from.CopyTo((first + done) * kSize, take * kSize, std::as_writable_bytes(std::span(staging)).data());
    for (int64_t i = 0; i < take; ++i) {
      if (staging[i] < 0 || staging[i] >= limit) {
        wrong = staging[i];
        return done + i;
      }
      to.push_back(static_cast<int32_t>(staging[i]));
    }
    done += take;
  }
  return count;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ReadIds(const std::string& field, const WireTensor& tensor,
                                             const SequenceLayout& layout, std::span<const int64_t> lens,
                                             int64_t limit) {
  std::vector<int32_t> ids;
  int64_t tokens = 0;
  for (const int64_t len : lens) tokens += len;
  ids.reserve(tokens);
  int64_t row = 0;
  for (size_t i = 0; i < lens.size(); ++i) {
    if (layout.padded_len != 0) row = static_cast<int64_t>(i) * layout.padded_len;
    int64_t wrong = 0;
    const int64_t good = tensor.dtype == DType::kI64
                             ? AppendIds<int64_t>(tensor.bytes, row, lens[i], limit, ids, wrong)
                             : AppendIds<int32_t>(tensor.bytes, row, lens[i], limit, ids, wrong);
    if (good != lens[i]) {
      const std::string place =
          layout.padded_len != 0 ? absl::StrCat(i, ", ", good) : absl::StrCat(row + good);
      return absl::InvalidArgumentError(
          absl::StrCat(field, "[", place, "]: got ", wrong, ", wanted 0 to ", limit - 1));
    }
    row += lens[i];
  }
  return ids;
}

}  // namespace headlight
