// What the attention plugins share.
#pragma once

#include <NvInferRuntime.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "contract.h"
#include "triton_kernel.h"

namespace stts {

// For `%lld`.
inline long long wide(int64_t number) noexcept { return number; }

// `[1, 9, 64]`.
inline std::string shape_text(nvinfer1::Dims const& dims) {
  std::string text = "[";
  for (int i = 0; i < dims.nbDims; ++i) text += (i ? ", " : "") + std::to_string(dims.d[i]);
  return text + "]";
}

// `ragged_attention_float16_72`, as variants.py calls it.
inline std::string entry_of(char const* kernel, nvinfer1::DataType type, int width) {
  return std::string(kernel) + "_" + type_name(type) + "_" + std::to_string(width);
}

inline float logit_scale(int width) noexcept { return 1.0f / std::sqrt(static_cast<float>(width)); }

constexpr char kMisaligned[] = "%s does not lie at a multiple of 16 bytes: bind memory as cudaMalloc gives it";

// The name of the first that does not lie at 16 bytes, which kernels copy at a time; null where all do.
inline char const* misaligned(std::initializer_list<std::pair<char const*, void const*>> tensors) noexcept {
  for (auto const& [name, place] : tensors) {
    if (reinterpret_cast<uintptr_t>(place) % 16 != 0) return name;
  }
  return nullptr;
}

}  // namespace stts
