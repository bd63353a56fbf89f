// GroupScore: one block compares the patches of one group with those of the frame before, reading both where they lie.
// The contract is in README.md.

#include "real.cuh"

namespace stts::group_score {

constexpr int kThreads = 256;
constexpr float kShortest = 1e-12f;  // what a length is held above, as torch's normalize holds it

struct Shared {
  float squares[kThreads], squares_before[kThreads], products[kThreads];
};

// `width` is D, a multiple of `count`; a frame has `groups` groups of `pool` x `pool` patches, `across` in a row.
// `previous` and `last` hold a group's patches one after another.
template <class Real, int count>
STTS_DEVICE void score_groups(Real const* hidden, float const* previous, float* scores, float* last, int groups,
                              int across, int pool, int width) {
  using Packed = Pack<Real, count>;
  Block const block;
  Shared& shared = block.shared<Shared>();
  int const row = across * pool, packs = width / count;
  int const frame = block.index() / groups, frames = block.blocks() / groups, group = block.index() % groups;
  // The group's first patch, among those of all frames: they lie end to end, and so do their rows of groups.
  long long const corner = static_cast<long long>(block.index() / across) * pool * row + block.index() % across * pool;
  long long const state = static_cast<long long>(group) * pool * pool * width;

  // Calls `body(pack, place)` for each pack of the group's that is the thread's; `place` is its first number's within
  // the group.
  auto const packs_of = [&](int thread, auto body) {
    for (int i = thread; i < pool * pool * packs; i += block.threads()) {
      int const patch = i / packs;
      long long const at = (corner + patch / pool * row + patch % pool) * width + i % packs * count;
      body(at, i * count);
    }
  };
  auto const read = [&](long long at) { return *reinterpret_cast<Packed const*>(hidden + at); };

  block.phase([&](int thread) {
    float squares = 0, squares_before = 0, products = 0;
    packs_of(thread, [&](long long at, int place) {
      Packed const now = read(at);
      float before[count];
      if (frame > 0) {
        Packed const packed = read(at - static_cast<long long>(groups) * pool * pool * width);
        for (int k = 0; k < count; ++k) before[k] = to_float(packed.value[k]);
      } else {
        for (int k = 0; k < count; ++k) before[k] = previous[state + place + k];
      }
      for (int k = 0; k < count; ++k) {
        float const number = to_float(now.value[k]);
        squares += number * number;
        squares_before += before[k] * before[k];
        products += number * before[k];
      }
    });
    shared.squares[thread] = squares;
    shared.squares_before[thread] = squares_before;
    shared.products[thread] = products;
  });
  for (int half = block.threads() / 2; half > 0; half /= 2) {
    block.phase([&](int thread) {
      if (thread >= half) return;
      shared.squares[thread] += shared.squares[thread + half];
      shared.squares_before[thread] += shared.squares_before[thread + half];
      shared.products[thread] += shared.products[thread + half];
    });
  }
  block.phase([&](int thread) {
    float const length = fmaxf(sqrtf(shared.squares[0]), kShortest);
    // What the first frame is compared with has length 1 already, or is the zero that has no direction.
    float const length_before = frame > 0 ? fmaxf(sqrtf(shared.squares_before[0]), kShortest) : 1.0f;
    if (thread == 0) scores[block.index()] = 1.0f - shared.products[0] / length / length_before;
    if (frame != frames - 1) return;
    packs_of(thread, [&](long long at, int place) {
      Packed const now = read(at);
      for (int k = 0; k < count; ++k) last[state + place + k] = to_float(now.value[k]) / length;
    });
  });
}

}  // namespace stts::group_score

#define GROUP_SCORE(entry, Real, count)                                                                               \
  STTS_KERNEL(stts::group_score::kThreads)                                                                            \
  void entry(Real const* hidden, float const* previous, float* scores, float* last, int groups, int across, int pool, \
             int width) {                                                                                             \
    stts::group_score::score_groups<Real, count>(hidden, previous, scores, last, groups, across, pool, width);        \
  }

GROUP_SCORE(group_score_float32, float, 4)
GROUP_SCORE(group_score_float16, stts::Half, 8)
GROUP_SCORE(group_score_bfloat16, stts::Brain, 8)
GROUP_SCORE(group_score_float32_alone, float, 1)
GROUP_SCORE(group_score_float16_alone, stts::Half, 1)
GROUP_SCORE(group_score_bfloat16_alone, stts::Brain, 1)
