// GroupPool: one block reads the patches of one group where they lie in the frame, once. The contract is in README.md.

#include "real.cuh"

namespace stts::group_pool {

constexpr int kMostWeights = 2048;  // heads times patches a group; the plugin checks it

struct Shared {
  float weights[kMostWeights];  // by patch, then head; logits to begin with
};

// `width` is D, a multiple of `count` as a head's width is; groups are of `pool` x `pool` patches, `across` in a row.
template <class Real, int count>
STTS_DEVICE void pool_groups(Real const* query, Real const* key, Real const* value, Real* pooled, int across, int pool,
                             int width, int heads) {
  using Packed = Pack<Real, count>;
  Block const block;
  Shared& shared = block.shared<Shared>();
  int const patches = pool * pool, row = across * pool, head_width = width / heads;
  // The group's first patch, among those of all frames: they lie end to end, and so do their rows of groups.
  long long const corner = static_cast<long long>(block.index() / across) * pool * row + block.index() % across * pool;
  auto const patch_at = [&](Real const* rows, int patch) {
    return reinterpret_cast<Packed const*>(rows + (corner + patch / pool * row + patch % pool) * width);
  };
  auto const* const asks = reinterpret_cast<Packed const*>(query + static_cast<long long>(block.index()) * width);
  float const scale = 1.0f / sqrtf(static_cast<float>(head_width));

  block.phase([&](int thread) {
    STTS_NOT_UNROLLED
    for (int i = thread; i < patches * heads; i += block.threads()) {
      int const first = i % heads * head_width / count;
      Packed const* const keys = patch_at(key, i / heads);
      float logit = 0;
      for (int j = first; j < first + head_width / count; ++j) {
        Packed const ask = asks[j], answer = keys[j];
        for (int k = 0; k < count; ++k) logit += to_float(ask.value[k]) * to_float(answer.value[k]);
      }
      shared.weights[i] = logit * scale;
    }
  });
  block.phase([&](int thread) {
    STTS_NOT_UNROLLED
    for (int head = thread; head < heads; head += block.threads()) {
      float most = shared.weights[head];
      STTS_NOT_UNROLLED
      for (int patch = 1; patch < patches; ++patch) most = fmaxf(most, shared.weights[patch * heads + head]);
      float sum = 0;
      STTS_NOT_UNROLLED
      for (int patch = 0; patch < patches; ++patch) {
        float& weight = shared.weights[patch * heads + head];
        weight = expf(weight - most);
        sum += weight;
      }
      STTS_NOT_UNROLLED
      for (int patch = 0; patch < patches; ++patch) shared.weights[patch * heads + head] /= sum;
    }
  });
  block.phase([&](int thread) {
    auto* const out = reinterpret_cast<Packed*>(pooled + static_cast<long long>(block.index()) * width);
    STTS_NOT_UNROLLED
    for (int i = thread; i < width / count; i += block.threads()) {
      int const head = i * count / head_width;
      float sums[count] = {};
      for (int patch = 0; patch < patches; ++patch) {
        Packed const values = patch_at(value, patch)[i];
        for (int k = 0; k < count; ++k) sums[k] += shared.weights[patch * heads + head] * to_float(values.value[k]);
      }
      Packed mixed;
      for (int k = 0; k < count; ++k) mixed.value[k] = from_float<Real>(sums[k]);
      out[i] = mixed;
    }
  });
}

}  // namespace stts::group_pool

#define GROUP_POOL(entry, Real, count)                                                                             \
  STTS_KERNEL(256)                                                                                                 \
  void entry(Real const* query, Real const* key, Real const* value, Real* pooled, int across, int pool, int width, \
             int heads) {                                                                                          \
    stts::group_pool::pool_groups<Real, count>(query, key, value, pooled, across, pool, width, heads);             \
  }

GROUP_POOL(group_pool_float32, float, 4)
GROUP_POOL(group_pool_float16, stts::Half, 8)
GROUP_POOL(group_pool_bfloat16, stts::Brain, 8)
GROUP_POOL(group_pool_float32_alone, float, 1)
GROUP_POOL(group_pool_float16_alone, stts::Half, 1)
GROUP_POOL(group_pool_bfloat16_alone, stts::Brain, 1)
