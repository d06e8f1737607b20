// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/tensor_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/tensor/convert.h"
#include "tests/core/checkpoint/corrupt_files.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr char kTensorName[] = "w";

// A file in memory that holds one tensor, and its reader.
class OneTensorFile {
 public:
  OneTensorFile(const std::string& dtype, const Shape& shape, const std::vector<double>& numbers) {
    std::string data;
    for (const double number : numbers) {
      const auto narrow = static_cast<float>(number);
      char bytes[8];
      int64_t size = 4;
      if (dtype == "F64") {
        std::memcpy(bytes, &number, size = 8);
      } else if (dtype == "F32") {
        std::memcpy(bytes, &narrow, size);
      } else {
        ConvertFromF32(&narrow, 1, dtype == "F16" ? DType::kF16 : DType::kBf16, bytes);
        size = 2;
      }
      data.append(bytes, size);
    }
    const std::string header =
        absl::StrCat(R"({"w":{"dtype":")", dtype, R"(","shape":[)", absl::StrJoin(shape, ","),
                     R"(],"data_offsets":[0,)", data.size(), "]}}");
    bytes_ = testing::SafetensorsBytes(header, data);
    auto file = SafetensorsFile::FromBytes(std::as_bytes(std::span(bytes_)), "memory");
    EXPECT_THAT(file, IsOk());
    file_ = *std::move(file);
  }

  TensorReader reader() const { return TensorReader(name_, file_->entries().at(kTensorName)); }

 private:
  const std::string name_ = kTensorName;
  std::string bytes_;
  std::unique_ptr<const SafetensorsFile> file_;
};

// Whole numbers that all four types have exactly.
std::vector<double> SmallNumbers(int64_t count) {
  std::vector<double> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<double>(i * 37 % 255 - 127);
  return numbers;
}

class TensorReaderTest : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Dtypes, TensorReaderTest, ::testing::Values("F32", "F16", "BF16", "F64"));

TEST_P(TensorReaderTest, ReadsColumns) {
  const std::vector<double> numbers = SmallNumbers(7 * 10);
  const OneTensorFile file(GetParam(), {7, 10}, numbers);
  std::vector<float> all, some;
  ASSERT_THAT(file.reader().ReadCols(0, 0, all), IsOk());
  ASSERT_THAT(file.reader().ReadCols(3, 4, some), IsOk());
  EXPECT_EQ(all, std::vector<float>(numbers.begin(), numbers.end()));
  ASSERT_EQ(some.size(), 28u);
  for (int64_t row = 0; row < 7; ++row) {
    for (int64_t col = 0; col < 4; ++col) EXPECT_EQ(some[row * 4 + col], numbers[row * 10 + col + 3]);
  }
}

// Fewer rows than are transposed together, as many, and more; wider than a tile of them.
TEST_P(TensorReaderTest, TransposesRows) {
  for (const int64_t rows : {1, 31, 32, 33, 64, 70}) {
    for (const int64_t cols : {1, 10, 32, 75}) {
      const std::vector<double> numbers = SmallNumbers(rows * cols);
      const OneTensorFile file(GetParam(), {rows, cols}, numbers);
      for (const auto& [first, size] : {std::pair<int64_t, int64_t>(0, 0), {rows / 2, rows - rows / 2}}) {
        std::vector<float> got;
        ASSERT_THAT(file.reader().ReadRowsTransposed(first, size, got), IsOk());
        const int64_t count = size == 0 ? rows : size;
        ASSERT_EQ(std::ssize(got), count * cols);
        for (int64_t row = 0; row < count; ++row) {
          for (int64_t col = 0; col < cols; ++col) {
            ASSERT_EQ(got[col * count + row], numbers[(first + row) * cols + col]) << row << ", " << col;
          }
        }
      }
    }
  }
}

// What is left over at the end is no whole part.
TEST_P(TensorReaderTest, ReadsWhatComesAgainAfterAPeriod) {
  const std::vector<double> numbers = SmallNumbers(5 * 14);
  std::vector<float> got;
  const OneTensorFile in_out(GetParam(), {5, 14}, numbers);
  ASSERT_THAT(in_out.reader().ReadCols(3, 2, got, 6), IsOk());
  ASSERT_EQ(got.size(), 5u * 4);
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t col = 0; col < 4; ++col) {
      EXPECT_EQ(got[row * 4 + col], numbers[row * 14 + 3 + col / 2 * 6 + col % 2]) << row << ", " << col;
    }
  }
  const OneTensorFile out_in(GetParam(), {14, 5}, numbers);
  ASSERT_THAT(out_in.reader().ReadRowsTransposed(3, 2, got, 6), IsOk());
  ASSERT_EQ(got.size(), 5u * 4);
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t col = 0; col < 4; ++col) {
      EXPECT_EQ(got[row * 4 + col], numbers[(3 + col / 2 * 6 + col % 2) * 5 + row]) << row << ", " << col;
    }
  }
}

TEST_P(TensorReaderTest, ATableKeepsItsDtypeAndItsNumbers) {
  const std::vector<double> numbers = SmallNumbers(6 * 5);
  const OneTensorFile file(GetParam(), {6, 5}, numbers);
  const absl::StatusOr<EmbeddingTable> table = file.reader().ReadTable();
  ASSERT_THAT(table, IsOk());
  const std::string dtype = GetParam();
  EXPECT_EQ(table->dtype(), dtype == "F16" ? DType::kF16 : dtype == "BF16" ? DType::kBf16 : DType::kF32);
  EXPECT_EQ(file.reader().table_dtype(), table->dtype());
  std::vector<float> row(5);
  for (int64_t r = 0; r < 6; ++r) {
    table->ReadRow(r, 5, row.data());
    for (int64_t col = 0; col < 5; ++col) EXPECT_EQ(row[col], numbers[r * 5 + col]);
  }
}

TEST_P(TensorReaderTest, NamesThePlaceOfTheFirstNumberThatIsNotFinite) {
  for (const double sick : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    std::vector<double> numbers = SmallNumbers(2 * 40 * 3);
    numbers[1 * 120 + 35 * 3 + 2] = sick;
    numbers.back() = sick;
    const OneTensorFile file(GetParam(), {2, 40, 3}, numbers);
    std::vector<float> to;
    const auto refusal =
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(absl::StrCat("w[1, 35, 2]: got ", sick, ", wanted finite numbers")));
    EXPECT_THAT(file.reader().ReadCols(0, 0, to), refusal);
    EXPECT_THAT(file.reader().ReadRowsTransposed(0, 0, to), refusal);
    EXPECT_THAT(file.reader().ReadTable(), refusal);
  }
}

TEST_P(TensorReaderTest, ATensorOfNothingIsNothing) {
  const OneTensorFile file(GetParam(), {0, 5}, {});
  std::vector<float> to(3);
  EXPECT_THAT(file.reader().ReadCols(0, 0, to), IsOk());
  EXPECT_TRUE(to.empty());
}

TEST_P(TensorReaderTest, ANumberWithoutDimensionsIsAMatrixOfOne) {
  const OneTensorFile file(GetParam(), {}, {5});
  std::vector<float> to;
  ASSERT_THAT(file.reader().ReadCols(0, 0, to), IsOk());
  EXPECT_EQ(to, std::vector<float>{5.0f});
}

TEST(TensorReaderRoundingTest, F64IsRoundedToNearestAndRefusedBeyondF32) {
  const OneTensorFile rounded("F64", {3}, {1.0 + 0x1p-24, 1.0 + 0x1.8p-23, 1e-60});
  std::vector<float> to;
  ASSERT_THAT(rounded.reader().ReadCols(0, 0, to), IsOk());
  EXPECT_EQ(to, (std::vector<float>{1.0f, 1.0f + 0x1p-22f, 0.0f}));
  const OneTensorFile beyond("F64", {2}, {1.0, -1e300});
  EXPECT_THAT(beyond.reader().ReadCols(0, 0, to),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("w[1]: got -inf")));
}

// More than are converted at once.
TEST(TensorReaderSizeTest, LongTensorsAreReadToTheirEnd) {
  const int64_t rows = 1000, cols = 150;
  const std::vector<double> numbers = SmallNumbers(rows * cols);
  const OneTensorFile file("BF16", {rows, cols}, numbers);
  std::vector<float> plain, transposed;
  ASSERT_THAT(file.reader().ReadCols(0, 0, plain), IsOk());
  ASSERT_THAT(file.reader().ReadRowsTransposed(0, 0, transposed), IsOk());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      ASSERT_EQ(plain[row * cols + col], numbers[row * cols + col]);
      ASSERT_EQ(transposed[col * rows + row], numbers[row * cols + col]);
    }
  }
}

}  // namespace
}  // namespace headlight
