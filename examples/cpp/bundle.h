// A bundle: its manifest, what its graphs take and give, and the engines that were built of them. Neither CUDA nor
// TensorRT is needed for it, nor for clip.h. Each function of both does what its namesake in stts_runtime does, to the
// last bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "json.h"

namespace stts {

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

}  // namespace stts
