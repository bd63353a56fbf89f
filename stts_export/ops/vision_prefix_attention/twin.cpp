// The CPU twins of kernel.py, by plain loops.

#include "../attention_twin.h"

namespace stts {
namespace {

template <class Real, class Output, int width, int tile_rows, bool split>
void vision_prefix_attention(CudaLaunch const& launch, void** parameters) {
  auto const* query = parameter<Real const*>(parameters, 0);
  auto const* key = parameter<Real const*>(parameters, 1);
  auto const* value = parameter<Real const*>(parameters, 2);
  auto const* positions = parameter<int64_t const*>(parameters, 3);
  auto const* key_positions = parameter<int64_t const*>(parameters, 4);
  auto const* vision_flags = parameter<uint8_t const*>(parameters, 5);
  auto const* rows = parameter<int64_t const*>(parameters, 6);
  auto const* key_rows = parameter<int64_t const*>(parameters, 7);
  auto* output = parameter<Output*>(parameters, 8);
  auto* log_sums = parameter<float*>(parameters, 9);
  int64_t const fresh = parameter<int32_t>(parameters, 10), past = parameter<int32_t>(parameters, 11);
  int64_t const sharing = parameter<int32_t>(parameters, 12), span = parameter<int32_t>(parameters, 13);
  auto const scale = parameter<float>(parameters, 14);
  int64_t const keys = past + fresh, queries = int64_t{launch.grid_y} * sharing * fresh;
  for_programs(launch, [&](int64_t tile, int64_t kv_head, int64_t part) {
    for (int64_t row = tile * tile_rows; row < std::min((tile + 1) * tile_rows, fresh * sharing); ++row) {
      int64_t const token = row / sharing, place = (kv_head * sharing + row % sharing) * fresh + token;
      std::vector<int64_t> seen;
      for (int64_t other = part * span; other < std::min((part + 1) * span, keys); ++other) {
        bool const both_vision = vision_flags[past + token] != 0 && vision_flags[other] != 0;
        bool const is_seen = key_positions[other] <= positions[token] || both_vision;
        if (is_seen && rows[token] == key_rows[other]) seen.push_back(other);
      }
      int64_t const head = kv_head * keys * width;
      Gathered const gathered = attend(query + place * width, key + head, value + head, width, width, scale, seen);
      if constexpr (split) {
        std::copy(gathered.mixed.begin(), gathered.mixed.end(), output + (part * queries + place) * width);
        log_sums[part * queries + place] = gathered.log_sum;
      } else {
        for (int i = 0; i < width; ++i) output[place * width + i] = from_float<Output>(gathered.mixed[i]);
      }
    }
  });
}

template <class Real, int width>
void join_parts(CudaLaunch const& launch, void** parameters) {
  auto const* mixed = parameter<float const*>(parameters, 0);
  auto const* log_sums = parameter<float const*>(parameters, 1);
  auto* output = parameter<Real*>(parameters, 2);
  int64_t const queries = parameter<int32_t>(parameters, 3), parts = parameter<int32_t>(parameters, 4);
  for_programs(launch, [&](int64_t query, int64_t, int64_t) {
    float highest = -std::numeric_limits<float>::infinity();
    for (int64_t part = 0; part < parts; ++part) highest = std::max(highest, log_sums[part * queries + query]);
    std::vector<float> joined(width);
    float total = 0;
    for (int64_t part = 0; part < parts && std::isfinite(highest); ++part) {
      float const weight = std::exp2(log_sums[part * queries + query] - highest);
      total += weight;
      for (int i = 0; i < width; ++i) joined[i] += weight * mixed[(part * queries + query) * width + i];
    }
    for (int i = 0; i < width; ++i) {
      output[query * width + i] = from_float<Real>(total > 0 ? joined[i] / total : 0.0f);
    }
  });
}

#define TWINS_OF(kind, Real, width)                                                                                 \
  STTS_TWIN_OF(vision_prefix_attention_##kind##_##width, (vision_prefix_attention<Real, Real, width, 128, false>)); \
  STTS_TWIN_OF(vision_prefix_attention_parts_##kind##_##width,                                                      \
               (vision_prefix_attention<Real, float, width, 16, true>));                                            \
  STTS_TWIN_OF(join_parts_##kind##_##width, (join_parts<Real, width>))
#define TWINS(width)              \
  TWINS_OF(float16, Half, width); \
  TWINS_OF(bfloat16, Brain, width)
TWINS(24);
TWINS(64);
TWINS(128);

}  // namespace
}  // namespace stts
