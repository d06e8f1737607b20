// SPDX-License-Identifier: Apache-2.0
//
// Tensors and masks as the client's callers hold them. Values are row-major without padding, shapes are
// written outermost first. Types that end in View never own; the others always do.
#ifndef HEADLIGHT_CLIENT_TENSOR_H_
#define HEADLIGHT_CLIENT_TENSOR_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace headlight::client {

using Shape = std::vector<int64_t>;

// Product of the dimensions (1 for none), or nothing if a dimension is negative or the product exceeds int64.
std::optional<int64_t> NumElements(std::span<const int64_t> shape);

// "[2, 16, 768]"
std::string ToString(std::span<const int64_t> shape);

// Refers to values that must outlive it.
struct TensorView {
  Shape shape;
  std::span<const float> values;
};

struct Tensor {
  Shape shape;
  std::vector<float> values;

  TensorView View() const& { return {shape, values}; }
  TensorView View() && = delete;  // the view would outlive its values
};

// Whole numbers, such as places of keys.
struct IntTensor {
  Shape shape;
  std::vector<int32_t> values;
};

// Bytes: whole numbers from -128 to 127, or else from 0 to 255.
struct ByteTensor {
  Shape shape;
  bool is_signed = false;
  std::vector<uint8_t> values;
};

// Token ids or token types, [batch, seq_len] or [tokens], in either width.
struct IdsView {
  Shape shape;
  std::variant<std::span<const int32_t>, std::span<const int64_t>> values;
};

struct Ids {
  Shape shape;
  std::variant<std::vector<int32_t>, std::vector<int64_t>> values;

  IdsView View() const&;
  IdsView View() && = delete;
};

// An explicit mask, [batch or 1, num_heads or 1, q_len, kv_len], of one of two kinds:
//   uint8_t  anything but 0 where a query may attend to a key
//   float    added to the scaled scores before the softmax; -inf forbids
struct MaskView {
  Shape shape;
  std::variant<std::span<const uint8_t>, std::span<const float>> values;
};

struct Mask {
  Shape shape;
  std::variant<std::vector<uint8_t>, std::vector<float>> values;

  MaskView View() const&;
  MaskView View() && = delete;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_TENSOR_H_
