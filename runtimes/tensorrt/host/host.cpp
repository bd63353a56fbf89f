// libstts_host.so: selection and packing on the CPU, by the source of the kernels, for a runtime that calls it through
// ctypes. `stts_runtime.vision.plan`, in numpy, is what it is held to, and what serves without it.

#include <cstdint>
#include <new>
#include <vector>

#include "../../../stts_export/ops/select_groups/kernel.cu"

namespace {

constexpr int kVersion = 2;
enum Code { kPlanned = 0, kImpossible = 1, kNotFinite = 2, kNoMemory = 3 };

struct Sizes {
  int down, across, pool;  // groups along a frame's sides, patches along a group's
};

// Where the patches of the kept groups lie, laid end to end in raster order of frames and patches: as plan.pack_ragged
// says it.
void lay_out(std::vector<long long> const& order, int64_t frames, Sizes sizes, int64_t* gather,
             int64_t* cumulative_lengths, int64_t* readout) {
  int64_t const wide = sizes.across, pool = sizes.pool, row = wide * pool, patches = pool * pool;
  size_t first = 0;
  int64_t place = 0;
  cumulative_lengths[0] = 0;
  for (int64_t frame = 0; frame < frames; ++frame) {
    for (int64_t down = 0; down < sizes.down; ++down) {
      // The groups of a row of groups interleave: the first row of patches of each, then the second of each.
      int64_t const row_of_groups = frame * sizes.down + down;
      size_t last = first;
      while (last < order.size() && order[last] < (row_of_groups + 1) * wide) ++last;
      for (int64_t y = 0; y < pool; ++y) {
        for (size_t kept = first; kept < last; ++kept) {
          int64_t const across = order[kept] - row_of_groups * wide;
          int64_t const patch = (row_of_groups * pool + y) * row + across * pool;
          for (int64_t x = 0; x < pool; ++x, ++place) {
            gather[place] = patch + x;
            readout[static_cast<int64_t>(kept) * patches + y * pool + x] = place;
          }
        }
      }
      first = last;
    }
    cumulative_lengths[frame + 1] = place;
  }
}

}  // namespace

#define STTS_EXPORTED extern "C" __attribute__((visibility("default")))

STTS_EXPORTED int stts_host_version() { return kVersion; }

// Which groups of `scores` [frames, down * across] stay, `kept` of them, and where their patches lie when they are
// packed end to end. Writes keep [frames, down * across], gather [kept * pool * pool], cumulative_lengths [frames + 1]
// and readout [kept, pool * pool]. 0; or 1 where `kept` or a size is impossible, 2 where a score is not finite, 3
// without memory.
STTS_EXPORTED int stts_host_plan(float const* scores, int64_t frames, int down, int across, int pool, int64_t kept,
                                 uint8_t* keep, int64_t* gather, int64_t* cumulative_lengths, int64_t* readout) try {
  int64_t const groups = int64_t{down} * across, rows = frames * groups;
  if (frames < 1 || down < 1 || across < 1 || pool < 1 || frames > INT32_MAX / groups || kept < groups || kept > rows) {
    return kImpossible;
  }
  std::vector<long long> order(static_cast<size_t>(kept)), cumulative(static_cast<size_t>(frames + 1));
  std::vector<unsigned> scratch(static_cast<size_t>(2 * ((rows + 31) / 32)));
  stts::run_blocks({}, select_groups, reinterpret_cast<unsigned const*>(scores), static_cast<int>(frames),
                   static_cast<int>(groups), static_cast<int>(kept), keep, order.data(), cumulative.data(),
                   scratch.data());
  if (order[0] < 0) return kNotFinite;
  lay_out(order, frames, {down, across, pool}, gather, cumulative_lengths, readout);
  return kPlanned;
} catch (std::bad_alloc const&) {
  return kNoMemory;
}
