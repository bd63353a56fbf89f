// PackTokens: one block copies the patches of one group, in the widest words that rows and pointers allow. The contract
// is in README.md.

#include "block.cuh"

namespace stts::pack_tokens {

struct alignas(16) Word16 {
  unsigned part[4];
};
struct alignas(8) Word8 {
  unsigned part[2];
};

// `width` is D in words; there are `groups` groups of `pool` x `pool` patches in all frames, `across` in a row of them.
template <class Word>
STTS_DEVICE void pack(Word const* hidden, long long const* order, Word* packed, long long groups, int across, int pool,
                      int width) {
  Block const block;
  long long const group = order[block.index()];
  bool const is_group = group >= 0 && group < groups;
  int const patches = pool * pool, row = across * pool;
  // The group's first patch, among those of the clip: its frames lie end to end, and so do their rows of groups.
  long long const corner = group / across * pool * row + group % across * pool;
  Word* const to = packed + static_cast<long long>(block.index()) * patches * width;
  block.phase([&](int thread) {
    for (int i = thread; i < patches * width; i += block.threads()) {
      int const patch = i / width;
      Word word = {};
      if (is_group) word = hidden[(corner + patch / pool * row + patch % pool) * width + i % width];
      to[i] = word;
    }
  });
}

}  // namespace stts::pack_tokens

#define PACK_TOKENS(entry, Word)                                                                               \
  STTS_KERNEL(256)                                                                                             \
  void entry(Word const* hidden, long long const* order, Word* packed, long long groups, int across, int pool, \
             int width) {                                                                                      \
    stts::pack_tokens::pack(hidden, order, packed, groups, across, pool, width);                               \
  }

PACK_TOKENS(pack_tokens_16, stts::pack_tokens::Word16)
PACK_TOKENS(pack_tokens_8, stts::pack_tokens::Word8)
PACK_TOKENS(pack_tokens_4, unsigned)
PACK_TOKENS(pack_tokens_2, unsigned short)
