// The CPU twins of kernel.py, by plain loops.

#include "../attention_twin.h"

namespace stts {
namespace {

// The frame that owns a tile, and the tile's rows: frame after frame, as many tiles each as kernel.py says it is given.
template <class Real, int width, int tile_rows>
void ragged_attention(CudaLaunch const& launch, void** parameters) {
  auto const* query = parameter<Real const*>(parameters, 0);
  auto const* key = parameter<Real const*>(parameters, 1);
  auto const* value = parameter<Real const*>(parameters, 2);
  auto const* cumulative_lengths = parameter<int64_t const*>(parameters, 3);
  auto* output = parameter<Real*>(parameters, 4);
  int64_t const rows = parameter<int32_t>(parameters, 5), frames = parameter<int32_t>(parameters, 6);
  int64_t const stride = int64_t{parameter<int32_t>(parameters, 7)} * width;
  auto const scale = parameter<float>(parameters, 8);
  auto const bound = [&](int64_t frame) { return std::min(std::max(cumulative_lengths[frame], int64_t{0}), rows); };
  for_programs(launch, [&](int64_t tile, int64_t head, int64_t) {
    int64_t frame = 0;
    for (int64_t other = 0; other < frames; ++other) {
      if (bound(other) / tile_rows + other <= tile) frame = other;
    }
    int64_t const first = bound(frame), last = bound(frame + 1);
    int64_t const begin = first + std::max(tile - first / tile_rows - frame, int64_t{0}) * tile_rows;
    std::vector<int64_t> seen(static_cast<size_t>(std::max(last - first, int64_t{0})));
    std::iota(seen.begin(), seen.end(), first);
    for (int64_t row = begin; row < std::min(begin + tile_rows, last); ++row) {
      int64_t const column = head * width;
      Gathered const gathered =
          attend(query + row * stride + column, key + column, value + column, stride, width, scale, seen);
      for (int i = 0; i < width; ++i) output[row * stride + column + i] = from_float<Real>(gathered.mixed[i]);
    }
  });
}

#define TWINS(width, tile_rows)                                                               \
  STTS_TWIN_OF(ragged_attention_float16_##width, (ragged_attention<Half, width, tile_rows>)); \
  STTS_TWIN_OF(ragged_attention_bfloat16_##width, (ragged_attention<Brain, width, tile_rows>))
TWINS(16, 64);
TWINS(64, 64);
TWINS(72, 64);
TWINS(128, 128);

}  // namespace
}  // namespace stts
