// What the attention kernels' CPU twins share: plain attention of one query, and the order of programs.
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

#include "real.cuh"
#include "twins.h"

namespace stts {

// What one query gathers, and the logarithm, base 2, of its sum of weights: -inf and zeros where it sees nothing.
struct Gathered {
  std::vector<float> mixed;
  float log_sum = -std::numeric_limits<float>::infinity();
};

// Attends the keys of `seen`, which are rows of `width` numbers `stride` apart; all sums in float32.
template <class Real>
Gathered attend(Real const* query, Real const* keys, Real const* values, int64_t stride, int width, float scale,
                std::vector<int64_t> const& seen) {
  Gathered gathered{std::vector<float>(width)};
  std::vector<float> logits;
  for (int64_t const key : seen) {
    float sum = 0;
    for (int i = 0; i < width; ++i) sum += to_float(query[i]) * to_float(keys[key * stride + i]);
    logits.push_back(sum * scale);
  }
  if (seen.empty()) return gathered;
  float const highest = *std::max_element(logits.begin(), logits.end());
  float total = 0;
  for (size_t place = 0; place < seen.size(); ++place) {
    float const weight = std::exp(logits[place] - highest);
    total += weight;
    for (int i = 0; i < width; ++i) {
      gathered.mixed[i] += weight * to_float(values[seen[place] * stride + i]);
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
