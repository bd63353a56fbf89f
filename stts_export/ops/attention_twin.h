// What the attention kernels' CPU twins share: half precision in software, and plain attention of one query.
//
// A twin does what one program of its Triton kernel does, by loops: the same rows, the same parts of keys, and so the
// same grid. It finds both in its own way, so that a wrong one shows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "twins.h"

namespace stts {

inline uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

// IEEE half precision.
struct Float16 {
  uint16_t bits;

  explicit operator float() const {
    uint32_t const sign = uint32_t{bits & 0x8000u} << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    return std::copysign(std::ldexp(static_cast<float>(fraction), -24), float_of(sign | 0x3f800000u));
  }

  // The nearest, of two equally near ones the even one.
  static Float16 nearest(float number) {
    auto const sign = static_cast<uint16_t>(bits_of(number) >> 16 & 0x8000u);
    float const size = std::fabs(number);
    if (std::isnan(number)) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (size >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00u)};
    int exponent = -24;  // of the last place; denormal numbers, and 0, have the smallest
    if (size > 0) exponent = std::max(std::ilogb(size) - 10, exponent);
    auto const places = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, -exponent)));
    // Carries run over into the exponent as they should.
    return {static_cast<uint16_t>(sign | (places + (static_cast<uint32_t>(exponent + 24) << 10)))};
  }
};

// The upper half of a float.
struct BFloat16 {
  uint16_t bits;

  explicit operator float() const { return float_of(uint32_t{bits} << 16); }

  static BFloat16 nearest(float number) {
    uint32_t const all = bits_of(number);
    if (std::isnan(number)) return {0x7fc0};
    return {static_cast<uint16_t>((all + 0x7fffu + (all >> 16 & 1)) >> 16)};
  }
};

// What one query gathers, and the logarithm, base 2, of its sum of weights: -inf and zeros where it sees nothing.
struct Gathered {
  std::vector<float> mixed;
  float log_sum = -std::numeric_limits<float>::infinity();
};

// Attends the keys of `seen`, which are rows of `width` numbers `stride` apart; all sums in float32.
template <class Half>
Gathered attend(Half const* query, Half const* keys, Half const* values, int64_t stride, int width, float scale,
                std::vector<int64_t> const& seen) {
  Gathered gathered{std::vector<float>(width)};
  std::vector<float> logits;
  for (int64_t const key : seen) {
    float sum = 0;
    for (int i = 0; i < width; ++i) sum += static_cast<float>(query[i]) * static_cast<float>(keys[key * stride + i]);
    logits.push_back(sum * scale);
  }
  if (seen.empty()) return gathered;
  float const highest = *std::max_element(logits.begin(), logits.end());
  float total = 0;
  for (size_t place = 0; place < seen.size(); ++place) {
    float const weight = std::exp(logits[place] - highest);
    total += weight;
    for (int i = 0; i < width; ++i) {
      gathered.mixed[i] += weight * static_cast<float>(values[seen[place] * stride + i]);
    }
  }
  for (float& number : gathered.mixed) number /= total;
  gathered.log_sum = (highest + std::log(total)) * 1.44269504f;
  return gathered;
}

// Calls `program(x, y, z)` for every program of the grid; none may depend on another, so a seed permutes them.
template <class Program>
void for_programs(CudaLaunch const& launch, Program program) {
  std::vector<uint64_t> order(uint64_t{launch.grid_x} * launch.grid_y * launch.grid_z);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (launch.seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937(launch.seed));
  for (uint64_t const place : order) {
    uint64_t const column = place / launch.grid_x;
    program(static_cast<int64_t>(place % launch.grid_x), static_cast<int64_t>(column % launch.grid_y),
            static_cast<int64_t>(column / launch.grid_y));
  }
}

// The parameter at `place`, as cuLaunchKernel is given it.
template <class Parameter>
Parameter parameter(void** parameters, int place) {
  Parameter value;
  std::memcpy(&value, parameters[place], sizeof value);
  return value;
}

}  // namespace stts
