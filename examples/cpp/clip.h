// A clip on the host: its frames become patches, it is decided how many groups stay, and it is cut into runs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bundle.h"

namespace stts {

// A clip, [count, height, width, 3] in RGB order.
struct Frames {
  int64_t count = 0;
  std::string pixels;
};

// Reads a .npy file of uint8 [F, height, width, 3], or bytes without a head in that order. Frames must be of the grid's
// size already: stts_runtime.clip.frames.resize_frames squeezes them as the model was trained on.
inline Frames read_frames(fs::path const& file, Grid const& grid) {
  std::string content = read_file(file);
  std::string const height = std::to_string(grid.height), width = std::to_string(grid.width);
  std::string const wanted = "wanted RGB frames " + width + " wide and " + height + " high, uint8, raw or as .npy";
  if (content.compare(0, 6, "\x93NUMPY") == 0 && content.size() >= 10) {
    auto const byte = [&](size_t place) { return static_cast<size_t>(static_cast<unsigned char>(content[place])); };
    size_t const start = 10 + (byte(8) | byte(9) << 8);  // of version 1, in which numpy writes all such arrays
    std::string const head = content.substr(0, start);
    std::string const sizes = height + ", " + width + ", 3)";
    bool const fits = head.find("'|u1'") != head.npos && head.find("'fortran_order': False") != head.npos;
    size_t const shape = head.find("'shape': (");
    size_t const comma = shape == head.npos ? head.npos : head.find(", ", shape);
    if (!fits || start > content.size() || comma == head.npos || head.compare(comma + 2, sizes.size(), sizes) != 0) {
      fail(file.string(), " says ", head.substr(10, head.find('\n') - 10), ": ", wanted);
    }
    content.erase(0, start);
  }
  auto const bytes = static_cast<int64_t>(content.size());
  if (bytes == 0 || bytes % grid.frame_bytes() != 0) {
    fail(file.string(), " has ", bytes, " bytes of pixels, a frame has ", grid.frame_bytes(), ": ", wanted);
  }
  return {bytes / grid.frame_bytes(), std::move(content)};
}

// K, how many groups stay. The product is taken in float32 and truncated, as the trainer does it, and the first frame
// always stays: another K than this one's would be another layout of tokens than the model was trained on.
inline int64_t kept_groups(int64_t groups, int64_t frames, double prune_fraction) {
  if (!(prune_fraction >= 0 && prune_fraction < 1)) {
    fail("prune fraction is ", prune_fraction, ", wanted a number in [0, 1): 0.5 drops half of the groups");
  }
  if (frames < 1) fail("a clip has ", frames, " frames, wanted at least one");
  float const of_frame = static_cast<float>(static_cast<double>(groups) * prune_fraction);
  auto const wanted = static_cast<int64_t>(of_frame * static_cast<float>(frames));
  return frames * groups - std::min(wanted, groups * (frames - 1));
}

// Cuts `count` temporal patches from `first` on into patches [count, N, patch_values], with pixels in [-1, 1]: patches
// in raster order, in each frames, rows, columns, channels. What the last one lacks is the last frame once more.
inline void cut_patches(Frames const& frames, int64_t first, int64_t count, Grid const& grid, float* patches) {
  auto const* pixels = reinterpret_cast<unsigned char const*>(frames.pixels.data());
  int64_t const columns = grid.columns(), line = grid.patch_size * 3;
  for (int64_t temporal = first; temporal < first + count; ++temporal) {
    for (int64_t patch = 0; patch < grid.patches(); ++patch) {
      for (int64_t i = 0; i < grid.frames * grid.patch_size; ++i) {
        int64_t const frame = std::min(temporal * grid.frames + i / grid.patch_size, frames.count - 1);
        int64_t const y = patch / columns * grid.patch_size + i % grid.patch_size, x = patch % columns * line;
        unsigned char const* source = pixels + frame * grid.frame_bytes() + y * grid.width * 3 + x;
        for (int64_t j = 0; j < line; ++j) *patches++ = (static_cast<float>(source[j]) - 127.5f) / 127.5f;
      }
    }
  }
}

// Refuses lengths [T + 1] that do not lie end to end and fill `rows`: a kernel that reads them can refuse nothing.
inline void check_cumulative_lengths(int64_t const* ends, int64_t frames, int64_t rows) {
  bool const adds_up = ends[0] == 0 && ends[frames] == rows && std::is_sorted(ends, ends + frames + 1);
  if (!adds_up) fail("frames go from row ", ends[0], " to ", ends[frames], " of ", rows, ": lengths do not add up");
}

// Refuses scores [T, G] that are not finite: nobody can say then what is to be kept.
inline void check_scores(float const* scores, int64_t frames, int64_t groups) {
  auto const* const end = scores + frames * groups;
  auto const* const bad = std::find_if(scores, end, [](float score) { return !std::isfinite(score); });
  if (bad != end) {
    fail("scores of frame ", (bad - scores) / groups,
         " are not finite: the vision graph overflowed; build it with a higher precision");
  }
}

// Neighbouring frames with at most `room` groups, as (first, one past last), as many frames a run as can be. Frames
// with nothing kept go along with those before them; a run always has a group. No frame has more than `room`.
inline std::vector<std::pair<int64_t, int64_t>> runs_of_frames(int64_t const* ends, int64_t frames, int64_t room) {
  std::vector<std::pair<int64_t, int64_t>> runs;
  for (int64_t first = 0; first < frames && ends[first] < ends[frames];) {
    int64_t const fitting = std::upper_bound(ends, ends + frames + 1, ends[first] + room) - ends - 1;
    int64_t const last = std::max(first + 1, std::min(fitting, frames));
    runs.emplace_back(first, last);
    first = last;
  }
  return runs;
}

// Writes an array as .npy; whole, or not at all.
inline void write_npy(fs::path const& file, std::string const& descr, std::vector<int64_t> const& shape,
                      void const* data, size_t bytes) {
  std::string head = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (int64_t size : shape) head += std::to_string(size) + ",";
  head += "), }";
  head.resize((10 + head.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  head += '\n';
  fs::path const partial = file.string() + ".partial";
  {
    std::ofstream stream(partial, std::ios::binary);
    stream << "\x93NUMPY" << '\1' << '\0' << static_cast<char>(head.size() & 255)
           << static_cast<char>(head.size() >> 8);
    stream << head;
    stream.write(static_cast<char const*>(data), static_cast<std::streamsize>(bytes));
    stream.flush();
    if (!stream) {
      std::error_code ignored;
      fs::remove(partial, ignored);
      fail(file.string(), " cannot be written: is the folder there, and is there room?");
    }
  }
  fs::rename(partial, file);
}

}  // namespace stts
