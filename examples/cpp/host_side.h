// What the host does on the way from frames to features: it reads a bundle and frames, decides how many groups stay,
// and cuts a clip into runs. Neither CUDA nor TensorRT is needed for it. Each function does what its namesake in
// stts_runtime does, to the last bit.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace stts {

namespace fs = std::filesystem;

using Failure = std::runtime_error;  // what a user can meet, with what to do about it

template <class... Parts>
[[noreturn]] void fail(Parts const&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Failure(text.str());
}

inline std::string read_file(fs::path const& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (!stream) fail(file.string(), " cannot be read");
  return content;
}

// Whether the text is a number and nothing else; then it is read.
template <class Value>
bool is_number(std::string const& text, Value& value) {
  char const* const end = text.data() + text.size();
  return std::from_chars(text.data(), end, value).ptr == end;
}

// A JSON value. Text is as it stands in the file, escapes and all: the names that are looked for have none.
struct Json {
  char kind = '\0';  // '{', '[', '"', or 'w' for numbers and other words
  std::string text;  // of a word too
  std::vector<Json> items;
  std::vector<std::string> keys;  // of an object, in the order of `items`
  std::string where;              // the document and the way to this value, for messages

  void want(bool holds, std::string const& what) const {
    if (!holds) fail(where, ": wanted ", what, ": build the bundle again");
  }

  bool has(std::string const& key) const { return std::find(keys.begin(), keys.end(), key) != keys.end(); }

  Json const& operator[](std::string const& key) const {
    auto const found = std::find(keys.begin(), keys.end(), key);
    want(found != keys.end(), key);
    return items[static_cast<size_t>(found - keys.begin())];
  }

  template <class Value>
  Value number() const {
    Value value{};
    want(kind == 'w' && is_number(text, value), std::is_integral_v<Value> ? "a whole number" : "a number");
    return value;
  }

  std::vector<Json> const& list() const { return want(kind == '[', "a list"), items; }
  std::string const& word() const { return want(kind == '"', "text"), text; }
  int64_t integer() const { return number<int64_t>(); }
};

class JsonReader {
 public:
  explicit JsonReader(fs::path const& file) : file_(file.string()), content_(read_file(file)) {}

  Json read() {
    Json made = value(file_, 0);
    if (next() != '\0') refuse();
    return made;
  }

 private:
  [[noreturn]] void refuse() const { fail(file_, " is damaged at byte ", at_, ": copy or build the bundle again"); }

  char next() {  // that is no space; 0 at the end
    at_ = std::min(content_.find_first_not_of(" \t\r\n", at_), content_.size());
    return at_ < content_.size() ? content_[at_] : '\0';
  }

  bool take(char letter) {
    bool const is_next = next() == letter;
    at_ += is_next ? 1 : 0;
    return is_next;
  }

  std::string quoted() {
    if (!take('"')) refuse();
    size_t const start = at_;
    while (at_ < content_.size() && content_[at_] != '"') at_ += content_[at_] == '\\' ? 2 : 1;
    if (at_ >= content_.size()) refuse();
    return content_.substr(start, at_++ - start);
  }

  Json value(std::string const& where, int depth) {
    if (depth > 64) refuse();
    Json made;
    made.where = where;
    made.kind = next();
    if (bool const is_object = take('{'); is_object || take('[')) {
      while (!take(is_object ? '}' : ']')) {
        if (!made.items.empty() && !take(',')) refuse();
        if (is_object) made.keys.push_back(quoted());
        if (is_object && !take(':')) refuse();
        std::string const key = is_object ? made.keys.back() : std::to_string(made.items.size());
        made.items.push_back(value(where + (depth == 0 ? ": " : ".") + key, depth + 1));
      }
    } else if (made.kind == '"') {
      made.text = quoted();
    } else {
      size_t const end = std::min(content_.find_first_of(",]} \t\r\n", at_), content_.size());
      if (end == at_) refuse();
      made.kind = 'w';
      made.text = content_.substr(at_, end - at_);
      at_ = end;
    }
    return made;
  }

  std::string file_, content_;
  size_t at_ = 0;
};

// A tensor of a graph; a dimension is a size, or the symbol of one that a run decides.
struct Dim {
  int64_t size = 0;
  std::string symbol;
};

struct TensorSpec {
  std::string name, dtype;
  std::vector<Dim> shape;
};

struct Range {
  int64_t least = 0, most = 0;
};

// What a graph takes and gives: `bundle/spec.py` says it in full.
struct GraphSpec {
  std::string name;
  std::vector<TensorSpec> inputs, outputs;
  std::map<std::string, Range> dims;

  TensorSpec const& tensor(std::string const& wanted) const {
    for (auto const* tensors : {&inputs, &outputs}) {
      for (TensorSpec const& tensor : *tensors) {
        if (tensor.name == wanted) return tensor;
      }
    }
    fail("graph ", name, " has no tensor ", wanted, ": build the bundle again");
  }
};

inline size_t bytes_of(std::string const& dtype) {
  if (dtype == "float16" || dtype == "bfloat16") return 2;
  if (dtype == "float32" || dtype == "int32") return 4;
  if (dtype == "int64") return 8;
  fail("a tensor is of ", dtype, ", which is none of float16, bfloat16, float32, int32 and int64");
}

// How a frame becomes patches and groups; all sides are in pixels, but for `pool`, which is in patches. Where the tower
// sees several `frames` as one, they are a temporal patch, which is a frame to scores, groups and what is kept.
struct Grid {
  int64_t height = 0, width = 0, patch_size = 0, pool = 0, frames = 1;
  int64_t columns() const { return width / patch_size; }
  int64_t patches() const { return height / patch_size * columns(); }
  int64_t groups() const { return patches() / (pool * pool); }
  int64_t patch_values() const { return frames * patch_size * patch_size * 3; }
  int64_t frame_bytes() const { return height * width * 3; }
  int64_t temporal_patches(int64_t count) const { return (count + frames - 1) / frames; }
};

inline Grid grid_from(Json const& said) {
  Json const& size = said["image_size"];
  bool const is_square = size.kind == 'w';
  size.want(is_square || size.list().size() == 2, "a square's side, or height and width");
  Grid grid{(is_square ? size : size.items[0]).integer(), (is_square ? size : size.items[1]).integer(),
            said["patch_size"].integer(), said["pool"].integer(),
            said.has("frames") ? said["frames"].integer() : 1};  // which schema 7 brought
  said.want(std::min({grid.height, grid.width, grid.patch_size, grid.pool, grid.frames}) > 0, "sizes above 0");
  return grid;
}

struct Bundle {
  fs::path folder, library;  // libstts_trt.so for this machine
  Grid grid;
  int64_t chunk_frames = 0, max_frames = 0;  // temporal patches
  double prune_fraction = 0;                 // that it was built for
  std::string backend;                       // `tensorrt`, `tensorrt_rtx`
  std::map<std::string, GraphSpec> graphs;
};

constexpr char const* kParts[] = {"vision_score", "vision_select", "vision_encode"};

inline std::vector<TensorSpec> tensors_from(Json const& list) {
  std::vector<TensorSpec> tensors;
  for (Json const& one : list.list()) {
    TensorSpec tensor{one["name"].word(), one["dtype"].word(), {}};
    for (Json const& size : one["shape"].list()) {
      bool const is_symbol = size.kind == '"';
      tensor.shape.push_back({is_symbol ? 0 : size.integer(), is_symbol ? size.word() : ""});
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

inline bool has_size(fs::path const& file, int64_t size) {
  std::error_code error;
  auto const got = fs::file_size(file, error);
  return !error && got == static_cast<uintmax_t>(size);
}

// Reads the bundle in `folder`, whose library must be there for `machine`, as uname says it. Sizes are compared,
// digests are not: `stts-export inspect --check` does that.
inline Bundle open_bundle(fs::path const& folder, std::string const& machine) {
  constexpr int64_t kOldest = 5, kNewest = 10;  // before, there were no plugins
  fs::path const file = folder / "manifest.json";
  if (!fs::is_regular_file(file)) fail("no bundle at ", folder.string(), ": pass a folder NAME.stts, of a build");
  Json const manifest = JsonReader(file).read();
  if (int64_t const schema = manifest["schema_version"].integer(); schema < kOldest || schema > kNewest) {
    fail(file.string(), " is of schema ", schema, ", this program reads ", kOldest, " to ", kNewest,
         ": build the bundle again, or the program from the sources that the bundle was built with");
  }
  Bundle bundle;
  bundle.folder = folder;
  Json const& engine = manifest["engine"];
  if (engine["ops"].word() != "plugin") {
    fail(folder.string(), " has no plugins (its graphs are ", engine["ops"].word(),
         "), and this program wants them: ", "build it with --ops plugin, or ask it by stts-runtime");
  }
  bundle.backend = engine["backend"].word();
  bundle.grid = grid_from(manifest["grid"]);
  bundle.chunk_frames = manifest["limits"]["chunk_frames"].integer();
  bundle.max_frames = manifest["limits"]["max_frames"].integer();
  manifest["limits"].want(bundle.chunk_frames > 0, "chunks of at least one frame");
  bundle.prune_fraction = manifest["pruning"]["fraction"].number<double>();
  for (char const* part : kParts) {
    Json const& spec = manifest["graphs"][part]["spec"];
    GraphSpec& graph = bundle.graphs[part];
    graph = {part, tensors_from(spec["inputs"]), tensors_from(spec["outputs"]), {}};
    for (Json const& dim : spec["dims"].list()) {
      graph.dims[dim["name"].word()] = {dim["minimum"].integer(), dim["maximum"].integer()};
    }
  }
  std::string const library = "plugins/" + machine + "/libstts_trt.so";
  std::string carried;
  for (Json const& entry : manifest["files"].list()) {
    std::string const& path = entry["path"].word();
    if (fs::path(path).filename() == "libstts_trt.so") carried += " " + path;
    if (path != library) continue;
    bundle.library = folder / path;
    if (!has_size(bundle.library, entry["size"].integer())) {
      fail(bundle.library.string(), " is missing, or is not the file that was written: copy the bundle again");
    }
  }
  if (bundle.library.empty()) {
    fail(folder.string(), " carries no ", library, " (it has:", carried,
         "): build it again where `make plugins` has made the library for this machine");
  }
  return bundle;
}

// Files of the engines for this device, by part: those that `stts-runtime build` made with TensorRT `version`, of which
// three numbers count (`10.3.0`), for compute capability `sm` (87 is 8.7).
inline std::map<std::string, fs::path> find_engines(Bundle const& bundle, std::string const& version, int sm) {
  std::string misfits;
  std::error_code none_built;
  for (auto const& entry : fs::directory_iterator(bundle.folder / "engines", none_built)) {
    std::string const name = entry.path().filename().string();
    if (!entry.is_directory() || name[0] == '.') continue;  // with a dot: a build that is running
    Json const index = JsonReader(entry.path() / "engines.json").read();
    std::string const& built_with = index["version"].word();
    auto const& sms = index["compute_capabilities"].list();
    bool const is_version = (built_with + ".").rfind(version + ".", 0) == 0;
    bool const is_sm = std::any_of(sms.begin(), sms.end(), [&](Json const& one) { return one.integer() == sm; });
    if (index["backend"].word() != bundle.backend || !is_version || !is_sm) {
      misfits += "; " + name + " is for another";
      continue;
    }
    std::map<std::string, fs::path> files;
    for (Json const& file : index["files"].list()) {
      fs::path const path = entry.path() / fs::path(file["file"].word()).filename();
      if (has_size(path, file["size"].integer())) files[file["part"].word()] = path;
    }
    auto const has = [&](char const* part) { return files.count(part) == 1; };
    if (std::all_of(std::begin(kParts), std::end(kParts), has)) return files;
    misfits += "; " + name + " lacks an engine, or one is cut off";
  }
  fail(bundle.folder.string(), " holds no engines for ", bundle.backend, " ", version, " on SM ", sm,
       misfits.empty() ? "; it holds none at all" : misfits, ": run `stts-runtime build ", bundle.folder.string(),
       "` on this device");
}

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
