// SelectGroups in one block: a radix select of the highest score that goes, then one pass that keeps all above it and
// settles which of its equals go. The contract is in README.md.
//
// Scores are read as bits and never as numbers, so that neither denormals nor a compiler's float rules can matter.

#include "block.cuh"

namespace stts::select_groups {

constexpr int kDigits = 3;
constexpr int kBins = 2048;
constexpr int kMaxThreads = 1024;
constexpr int kWordBits = 32;

struct Shared {
  unsigned histogram[kBins];
  int sums[2][kMaxThreads];
  unsigned threshold[kDigits + 1];  // the highest score that goes, by its first 0, 1, ... digits
  int left[kDigits + 1];            // how many of the groups with these digits go
  int not_finite;
};

// Bits of a digit, from the highest.
STTS_DEVICE int digit_bits(int digit) { return digit < kDigits - 1 ? 11 : 10; }

// Integers in the order of the scores. Zero has one, whatever its sign.
STTS_DEVICE unsigned ordered(unsigned score) {
  if ((score & 0x7fffffffu) == 0) return 0x80000000u;
  return score & 0x80000000u ? ~score : score | 0x80000000u;
}

STTS_DEVICE bool is_finite(unsigned score) { return (score & 0x7f800000u) != 0x7f800000u; }

// What becomes of a group, while that is found out; the last two are what `keep` holds in the end.
enum Fate : unsigned char { kGoes = 0, kStays = 1, kTies = 2 };

// Finds the next digit of the threshold: that of the group which is `left`-th from below among those counted.
STTS_DEVICE void find_digit(Block const& block, Shared& shared, int digit) {
  int const bits = digit_bits(digit), bins = 1 << bits;
  int const own = (bins + block.threads() - 1) / block.threads();
  auto const bins_of = [&](int thread, auto body) {
    for (int bin = thread * own; bin < (thread + 1) * own && bin < bins; ++bin) body(bin);
  };
  block.phase([&](int thread) {
    int sum = 0;
    bins_of(thread, [&](int bin) { sum += static_cast<int>(shared.histogram[bin]); });
    shared.sums[0][thread] = sum;
  });
  int const* const sums = inclusive_sums(block, shared.sums[0], shared.sums[1]);
  block.phase([&](int thread) {
    int const left = shared.left[digit];
    int before = thread == 0 ? 0 : sums[thread - 1];
    bins_of(thread, [&](int bin) {
      int const count = static_cast<int>(shared.histogram[bin]);
      if (before < left && left <= before + count) {
        shared.threshold[digit + 1] = shared.threshold[digit] << bits | static_cast<unsigned>(bin);
        shared.left[digit + 1] = left - before;
      }
      before += count;
    });
  });
}

}  // namespace stts::select_groups

// One block of at most 1024 threads. `scratch` holds two words for each 32 groups, rounded up; `scores` are float32.
STTS_KERNEL(1024) void select_groups(unsigned const* scores, int frames, int groups, int kept, unsigned char* keep,
                          long long* order, long long* cumulative_groups, unsigned* scratch) {
  using namespace stts;
  using namespace stts::select_groups;
  Block const block;
  Shared& shared = block.shared<Shared>();
  int const rows = frames * groups, goes = rows - kept, threads = block.threads();
  int const words = (rows + kWordBits - 1) / kWordBits;

  block.phase([&](int thread) {
    if (thread != 0) return;
    shared.threshold[0] = 0;
    shared.left[0] = goes;
    shared.not_finite = 0;
  });
  block.phase([&](int thread) {
    for (int i = thread; i < rows; i += threads) {
      if (!is_finite(scores[i])) add(shared.not_finite, 1);
    }
  });
  if (shared.not_finite != 0) {
    block.phase([&](int thread) {
      for (int i = thread; i < rows; i += threads) keep[i] = kGoes;
      for (int i = thread; i < kept; i += threads) order[i] = -1;
      for (int i = thread; i <= frames; i += threads) cumulative_groups[i] = i == frames ? -1 : 0;
    });
    return;
  }

  // The first frame stays whole: it is no candidate.
  int below = 32;  // bits under the digits found so far
  for (int digit = 0; goes > 0 && digit < kDigits; ++digit) {
    int const bits = digit_bits(digit);
    block.phase([&](int thread) {
      for (int bin = thread; bin < kBins; bin += threads) shared.histogram[bin] = 0;
    });
    block.phase([&](int thread) {
      for (int i = groups + thread; i < rows; i += threads) {
        unsigned long long const score = ordered(scores[i]);
        if (score >> below != shared.threshold[digit]) continue;
        add(shared.histogram[score >> (below - bits) & ((1u << bits) - 1)], 1u);
      }
    });
    find_digit(block, shared, digit);
    below -= bits;
  }

  block.phase([&](int thread) {
    for (int i = thread; i < rows; i += threads) {
      unsigned const score = ordered(scores[i]);
      bool const stays = i < groups || goes == 0 || score > shared.threshold[kDigits];
      keep[i] = stays ? kStays : score == shared.threshold[kDigits] ? kTies : kGoes;
    }
  });

  // From here on groups go by words of bits, so that what comes before a group is a sum and a count of bits.
  unsigned* const stay = scratch;
  unsigned* const before = scratch + words;
  int const own = (words + threads - 1) / threads;
  auto const words_of = [&](int thread, auto body) {
    for (int word = thread * own; word < (thread + 1) * own && word < words; ++word) body(word);
  };
  auto const groups_of = [&](int word, auto body) {
    for (int bit = 0; bit < kWordBits && word * kWordBits + bit < rows; ++bit) body(bit, keep[word * kWordBits + bit]);
  };
  block.phase([&](int thread) {
    int ties = 0;
    words_of(thread, [&](int word) { groups_of(word, [&](int, unsigned char fate) { ties += fate == kTies; }); });
    shared.sums[0][thread] = ties;
  });
  int const* const ties_up_to = inclusive_sums(block, shared.sums[0], shared.sums[1]);
  int* const spare = ties_up_to == shared.sums[0] ? shared.sums[1] : shared.sums[0];
  block.phase([&](int thread) {
    int ties = thread == 0 ? 0 : ties_up_to[thread - 1], staying = 0;
    words_of(thread, [&](int word) {
      unsigned bits = 0;
      // Of equal scores the lowest index goes first.
      groups_of(word, [&](int bit, unsigned char fate) {
        bool const stays = fate == kStays || (fate == kTies && ties++ >= shared.left[kDigits]);
        bits |= static_cast<unsigned>(stays) << bit;
      });
      stay[word] = bits;
      before[word] = static_cast<unsigned>(staying);
      staying += set_bits(bits);
    });
    spare[thread] = staying;
  });
  int const* const stay_up_to = inclusive_sums(block, spare, spare == shared.sums[0] ? shared.sums[1] : shared.sums[0]);
  block.phase([&](int thread) {
    unsigned const others = thread == 0 ? 0 : static_cast<unsigned>(stay_up_to[thread - 1]);
    words_of(thread, [&](int word) { before[word] += others; });
  });

  auto const kept_before = [&](int i) {
    return before[i / kWordBits] + set_bits(stay[i / kWordBits] & ((1u << i % kWordBits) - 1));
  };
  block.phase([&](int thread) {
    for (int i = thread; i < rows; i += threads) {
      bool const stays = stay[i / kWordBits] >> i % kWordBits & 1;
      keep[i] = stays ? kStays : kGoes;
      if (stays) order[kept_before(i)] = i;
    }
    for (int frame = thread; frame < frames; frame += threads) {
      cumulative_groups[frame] = kept_before(frame * groups);
    }
    if (thread == 0) cumulative_groups[frames] = kept;
  });
}
