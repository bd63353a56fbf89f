// Frames to features by the engines of a bundle with plugins, on one stream: nothing waits for the host between the
// first frame and the last, unless the clip is encoded in several runs (see stts_runtime/vision/on_device.py).
//
//   frames_to_features BUNDLE FRAMES FEATURES.npy KEEP.npy [FRACTION]
//
// FRAMES is a .npy of uint8 [F, height, width, 3] or the same bytes raw; FEATURES becomes [K, sets * d_model], one row
// a kept group in raster order (bfloat16, which numpy lacks, as uint16), and KEEP bool [T, G]: which groups they are
// of, T being F or, where the model sees several frames as one, the number of those.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <set>

#include "bundle.h"
#include "clip.h"

namespace stts {
namespace {

constexpr size_t kAlignment = 256;  // which TensorRT wants of all addresses

#define CHECK_CUDA(call) check(call, #call)
void check(cudaError_t code, char const* call) {
  if (code != cudaSuccess) fail(call, " failed: ", cudaGetErrorName(code), " (", cudaGetErrorString(code), ")");
}

struct Logger final : nvinfer1::ILogger {
  void log(Severity severity, char const* message) noexcept override {
    if (severity <= Severity::kWARNING) std::cerr << "TensorRT: " << message << "\n";
  }
};

// Page-locked memory of the host, which copies reach without a detour.
template <class Value>
std::shared_ptr<Value> page_locked(int64_t count) {
  void* start = nullptr;
  CHECK_CUDA(cudaHostAlloc(&start, static_cast<size_t>(count) * sizeof(Value), cudaHostAllocDefault));
  return {static_cast<Value*>(start), [](Value* memory) { cudaFreeHost(memory); }};
}

// An array on the device, or rows of one: then it holds on to the memory of the whole.
struct Array {
  std::shared_ptr<char> memory;
  std::vector<int64_t> shape;
  size_t item = 0;  // bytes of a value

  size_t bytes() const {
    size_t count = item;
    for (int64_t size : shape) count *= static_cast<size_t>(size);
    return count;
  }

  Array rows(int64_t first, int64_t last) const {
    size_t const row = bytes() / static_cast<size_t>(shape[0]);
    Array part{{memory, memory.get() + row * static_cast<size_t>(first)}, shape, item};
    part.shape[0] = last - first;
    return part;
  }
};

Array new_array(std::vector<int64_t> shape, size_t item) {
  Array array{nullptr, std::move(shape), item};
  void* start = nullptr;
  CHECK_CUDA(cudaMalloc(&start, std::max(array.bytes(), kAlignment)));
  array.memory = {static_cast<char*>(start), [](char* memory) { cudaFree(memory); }};
  return array;
}

// The GPU that CUDA_VISIBLE_DEVICES names first, and the one stream that all is put on.
struct Device {
  Device() {
    int device = 0, major = 0, minor = 0;
    CHECK_CUDA(cudaGetDevice(&device));
    CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CHECK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    compute_capability = 10 * major + minor;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  Device(Device const&) = delete;
  ~Device() { cudaStreamDestroy(stream); }

  void wait() const { CHECK_CUDA(cudaStreamSynchronize(stream)); }
  void to_device(Array const& target, void const* page_locked) const {
    CHECK_CUDA(cudaMemcpyAsync(target.memory.get(), page_locked, target.bytes(), cudaMemcpyHostToDevice, stream));
  }
  void copy(void* target, void const* source, size_t bytes) const {
    CHECK_CUDA(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, stream));
  }

  cudaStream_t stream = nullptr;
  int compute_capability = 0;
};

// A file in memory, mapped: a second copy of the weights may not fit beside the engine's.
std::shared_ptr<void> mapped(fs::path const& file, size_t size) {
  int const descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  void* const start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (start == MAP_FAILED) fail(file.string(), " cannot be read");
  return {start, [size](void* memory) { munmap(memory, size); }};
}

nvinfer1::Dims dims_of(std::vector<int64_t> const& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

// A deserialized engine with one context, held to what the bundle says of its graph.
class Engine {
 public:
  Engine(nvinfer1::IRuntime& runtime, fs::path const& file, GraphSpec const& spec, Device const& device)
      : spec_(spec), device_(device) {
    size_t const size = fs::file_size(file);
    engine_.reset(runtime.deserializeCudaEngine(mapped(file, size).get(), size));
    if (engine_ == nullptr) fail("TensorRT refuses ", file.string(), ", see above: build the engines again");
    for (int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
      check_tensor(engine_->getIOTensorName(i), file);
      present_.insert(engine_->getIOTensorName(i));
    }
    context_.reset(engine_->createExecutionContext());
    if (context_ == nullptr) fail("there is no memory for a context of ", file.string(), ", see above");
  }

  // Puts a run on the stream. `arrays` holds every input and output by name, outputs of the shape that they will have.
  void run(std::map<std::string, Array> const& arrays) {
    for (TensorSpec const& tensor : spec_.inputs) {
      if (present_.count(tensor.name) == 0) continue;  // what no layer reads, some versions drop
      Array const& array = arrays.at(tensor.name);
      demand(context_->setInputShape(tensor.name.c_str(), dims_of(array.shape)), "the shape of " + tensor.name);
      char* const start = bind(tensor.name, array);
      if (start != array.memory.get()) device_.copy(start, array.memory.get(), array.bytes());
    }
    std::map<std::string, char*> beside;
    for (TensorSpec const& tensor : spec_.outputs) {
      Array const& array = arrays.at(tensor.name);
      nvinfer1::Dims const got = context_->getTensorShape(tensor.name.c_str()), room = dims_of(array.shape);
      bool const fits = got.nbDims == room.nbDims && std::equal(got.d, got.d + got.nbDims, room.d);
      demand(fits, "the shape of " + tensor.name);
      char* const start = bind(tensor.name, array);
      if (start != array.memory.get()) beside[tensor.name] = start;
    }
    demand(context_->enqueueV3(device_.stream), "to be run");
    for (auto const& [name, start] : beside) device_.copy(arrays.at(name).memory.get(), start, arrays.at(name).bytes());
  }

  GraphSpec const& spec() const { return spec_; }

  // A new array for a tensor, whose first dimension is `count` where a run decides it.
  Array array_for(std::string const& name, int64_t count = 0) const {
    TensorSpec const& tensor = spec_.tensor(name);
    std::vector<int64_t> shape;
    for (Dim const& dim : tensor.shape) shape.push_back(dim.symbol.empty() ? dim.size : count);
    return new_array(std::move(shape), bytes_of(tensor.dtype));
  }

 private:
  void demand(bool done, std::string const& what) const {
    if (!done) fail("the engine of ", spec_.name, " refuses ", what, "; TensorRT says above why");
  }

  // TensorRT reads and writes as many bytes as its own shapes and types say: those of another graph would go past ends.
  void check_tensor(std::string const& name, fs::path const& file) const {
    static std::map<std::string, nvinfer1::DataType> const types{
        {"float32", nvinfer1::DataType::kFLOAT}, {"float16", nvinfer1::DataType::kHALF},
        {"bfloat16", nvinfer1::DataType::kBF16}, {"int32", nvinfer1::DataType::kINT32},
        {"int64", nvinfer1::DataType::kINT64},
    };
    TensorSpec const& tensor = spec_.tensor(name);
    nvinfer1::Dims const shape = engine_->getTensorShape(name.c_str());
    bool fits = engine_->getTensorDataType(name.c_str()) == types.at(tensor.dtype) &&
                shape.nbDims == static_cast<int32_t>(tensor.shape.size());
    for (int32_t i = 0; fits && i < shape.nbDims; ++i) {
      Dim const& dim = tensor.shape[static_cast<size_t>(i)];
      fits = dim.symbol.empty() ? shape.d[i] == dim.size : shape.d[i] == -1 && serves(name, i, dim.symbol);
    }
    if (!fits) fail(name, " of ", file.string(), " is not as the bundle says: build the engines again");
  }

  bool serves(std::string const& name, int32_t place, std::string const& symbol) const {
    if (engine_->getTensorIOMode(name.c_str()) != nvinfer1::TensorIOMode::kINPUT) return true;
    using nvinfer1::OptProfileSelector;
    Range const& range = spec_.dims.at(symbol);
    return engine_->getProfileShape(name.c_str(), 0, OptProfileSelector::kMIN).d[place] <= range.least &&
           engine_->getProfileShape(name.c_str(), 0, OptProfileSelector::kMAX).d[place] >= range.most;
  }

  // Where the engine reads or writes an array: in its own place, or beside it where that is not aligned.
  char* bind(std::string const& name, Array const& array) {
    char* start = array.memory.get();
    if (reinterpret_cast<uintptr_t>(start) % kAlignment != 0) {
      Array& beside = beside_[name];
      if (beside.memory == nullptr) beside = array_for(name, spec_.dims.at(spec_.tensor(name).shape[0].symbol).most);
      start = beside.memory.get();
    }
    demand(context_->setTensorAddress(name.c_str(), start), "the address of " + name);
    return start;
  }

  GraphSpec const& spec_;
  Device const& device_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::set<std::string> present_;
  std::map<std::string, Array> beside_;
};

// What the vision side says about a clip.
struct Vision {
  std::shared_ptr<char> features;  // [K, sets * d_model]
  std::shared_ptr<int64_t> order;  // [K], the kept groups as frame * G + group
  size_t bytes = 0, encoder_runs = 0;
};

class FramesToFeatures {
 public:
  FramesToFeatures(Bundle const& bundle, Device const& device, Engine& score, Engine& select, Engine& encode)
      : grid_(bundle.grid),
        chunk_(bundle.chunk_frames),
        device_(device),
        score_(score),
        select_(select),
        encode_(encode) {}

  // The stream is done with all memory before any of it goes, whatever goes wrong.
  ~FramesToFeatures() { cudaStreamSynchronize(device_.stream); }
  FramesToFeatures(FramesToFeatures const&) = delete;

  Vision look(Frames const& frames, int64_t kept) {
    int64_t const count = grid_.temporal_patches(frames.count);
    Array const scores = held(select_.array_for("scores", count));
    Array const hidden = score_frames(frames, scores);
    Array const order = held(select_.array_for("order", kept));
    Array const ends = held(select_.array_for("cumulative_groups", count + 1));
    Array const number = held(select_.array_for("kept", kept));  // its length is what is read
    select_.run({{"scores", scores}, {"kept", number}, {"order", order}, {"cumulative_groups", ends}});
    Vision vision;
    Array features;
    try {
      features = encode_groups(hidden, order, ends, vision.encoder_runs);
    } catch (Failure const&) {  // the cause, if they are not finite: nothing can be encoded then
      auto const on_host = to_host<float>(scores);
      device_.wait();
      check_scores(on_host.get(), count, grid_.groups());
      throw;
    }
    auto const on_host = to_host<float>(scores);
    vision.features = to_host<char>(features);
    vision.order = to_host<int64_t>(order);
    vision.bytes = features.bytes();
    device_.wait();
    check_scores(on_host.get(), count, grid_.groups());
    return vision;
  }

 private:
  // Fills `scores` [T, G] and returns hidden [T, N, D]. The scorer's state is carried from chunk to chunk.
  Array score_frames(Frames const& frames, Array const& scores) {
    int64_t const count = grid_.temporal_patches(frames.count), patch_values = grid_.patches() * grid_.patch_values();
    Array const hidden = held(score_.array_for("hidden", count)), patches = held(score_.array_for("patches", chunk_));
    Array state = held(score_.array_for("previous")), last = held(score_.array_for("last"));
    CHECK_CUDA(cudaMemsetAsync(state.memory.get(), 0, state.bytes(), device_.stream));
    // the first frame has no predecessor: its scores must not bias anything
    Array const gate = on_device<float>(count, [](int64_t frame) { return frame == 0 ? 0.0f : 1.0f; });
    // While one chunk is on its way to the device, the next is cut.
    struct Slot {
      std::shared_ptr<float> patches;
      cudaEvent_t copied = nullptr;
      ~Slot() { cudaEventDestroy(copied); }
    } slots[2];
    for (Slot& slot : slots) {
      slot.patches = page_locked<float>(chunk_ * patch_values);
      held_.push_back(slot.patches);
      CHECK_CUDA(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming));
    }
    for (int64_t first = 0; first < count; first += chunk_) {
      int64_t const end = std::min(first + chunk_, count);
      Slot const& slot = slots[first / chunk_ % 2];
      CHECK_CUDA(cudaEventSynchronize(slot.copied));
      cut_patches(frames, first, end - first, grid_, slot.patches.get());
      Array const part = patches.rows(0, end - first);
      device_.to_device(part, slot.patches.get());
      CHECK_CUDA(cudaEventRecord(slot.copied, device_.stream));
      score_.run({{"patches", part},
                  {"previous", state},
                  {"gate", gate.rows(first, end)},
                  {"last", last},
                  {"hidden", hidden.rows(first, end)},
                  {"scores", scores.rows(first, end)}});
      std::swap(state, last);
    }
    return hidden;
  }

  // Returns features [K, sets * d_model] of the groups in `order`; all at once if an engine's run has room for them.
  Array encode_groups(Array const& hidden, Array const& order, Array const& ends, size_t& runs) {
    int64_t const kept = order.shape[0], frames = ends.shape[0] - 1, room = encode_.spec().dims.at("K").most;
    Array const features = held(encode_.array_for("features", kept));
    Array const positions = on_device<int64_t>(grid_.patches(), [](int64_t patch) { return patch; });
    auto const encode = [&](int64_t first, int64_t last, Array const& own_ends, int64_t longest) {
      encode_.run({{"hidden", hidden},
                   {"order", order.rows(first, last)},
                   {"cumulative_groups", own_ends},
                   {"positions", positions.rows(0, longest)},
                   {"features", features.rows(first, last)}});
      ++runs;
    };
    if (kept <= room) {
      encode(0, kept, ends, grid_.patches());  // the first frame stays whole, so it is the longest
      return features;
    }
    auto const on_host = to_host<int64_t>(ends);
    device_.wait();  // the one wait: for the lengths that cut the clip
    int64_t const* const end = on_host.get();
    check_cumulative_lengths(end, frames, kept);
    for (auto const& [first, last] : runs_of_frames(end, frames, room)) {
      int64_t longest = 0;
      for (int64_t frame = first; frame < last; ++frame) longest = std::max(longest, end[frame + 1] - end[frame]);
      int64_t const from = first;
      Array const own = on_device<int64_t>(last - first + 1, [&](int64_t i) { return end[from + i] - end[from]; });
      encode(end[first], end[last], own, longest * grid_.pool * grid_.pool);
    }
    return features;
  }

  // Returns `array`, whose memory stays until all is done: to give memory back is to wait for the device.
  Array held(Array array) {
    held_.push_back(array.memory);
    return array;
  }

  // What an array holds, once the stream was waited for.
  template <class Value>
  std::shared_ptr<Value> to_host(Array const& source) {
    auto const target = page_locked<Value>(static_cast<int64_t>(source.bytes() / sizeof(Value)));
    held_.push_back(target);
    CHECK_CUDA(
        cudaMemcpyAsync(target.get(), source.memory.get(), source.bytes(), cudaMemcpyDeviceToHost, device_.stream));
    return target;
  }

  // An array on the device with the values of `value(0)` to `value(count - 1)`.
  template <class Value, class Function>
  Array on_device(int64_t count, Function value) {
    auto const staged = page_locked<Value>(count);
    for (int64_t i = 0; i < count; ++i) staged.get()[i] = value(i);
    held_.push_back(staged);
    Array const array = held(new_array({count}, sizeof(Value)));
    device_.to_device(array, staged.get());
    return array;
  }

  Grid const& grid_;
  int64_t chunk_;
  Device const& device_;
  Engine &score_, &select_, &encode_;
  std::vector<std::shared_ptr<void>> held_;
};

std::string tensorrt_version() {
  int32_t const number = getInferLibVersion();  // 100304 is 10.3.4
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

void run(fs::path const& folder, fs::path const& clip, fs::path const& features_file, fs::path const& keep_file,
         std::string const& wanted_fraction) {
  utsname machine{};
  uname(&machine);
  Bundle const bundle = open_bundle(folder, machine.machine);
  Frames const frames = read_frames(clip, bundle.grid);
  double fraction = bundle.prune_fraction;
  if (!wanted_fraction.empty() && !is_number(wanted_fraction, fraction)) {
    fail(wanted_fraction, " is no prune fraction: wanted a number like 0.5");
  }
  int64_t const groups = bundle.grid.groups(), count = bundle.grid.temporal_patches(frames.count);
  int64_t const kept = kept_groups(groups, count, fraction);
  if (fraction == 0) fail("prune fraction is 0: nothing is to be selected then, ask stts-runtime for a dense run");
  if (count > bundle.max_frames) {
    fail(clip.string(), " has ", frames.count, " frames, the bundle was built for at most ",
         bundle.max_frames * bundle.grid.frames, ": use fewer, or build it again with a larger --max-frames");
  }
  Device const device;
  Logger logger;
  // Known to TensorRT before an engine names its plugins, and never given back: it would crash while a plugin is alive.
  if (getPluginRegistry()->loadLibrary(bundle.library.c_str()) == nullptr) {
    fail("TensorRT cannot load ", bundle.library.string(), ", see above: does it need a newer system?");
  }
  std::unique_ptr<nvinfer1::IRuntime> const runtime(nvinfer1::createInferRuntime(logger));
  if (runtime == nullptr) fail("TensorRT is of another version than the headers this program was compiled against");
  auto const files = find_engines(bundle, tensorrt_version(), device.compute_capability);
  auto const engine = [&](char const* part) {
    return std::make_unique<Engine>(*runtime, files.at(part), bundle.graphs.at(part), device);
  };
  auto const score = engine("vision_score"), select = engine("vision_select"), encode = engine("vision_encode");

  auto const start = std::chrono::steady_clock::now();
  Vision const vision = FramesToFeatures(bundle, device, *score, *select, *encode).look(frames, kept);
  std::chrono::duration<double, std::milli> const taken = std::chrono::steady_clock::now() - start;

  std::vector<char> keep(static_cast<size_t>(count * groups));
  for (int64_t i = 0; i < kept; ++i) keep.at(static_cast<size_t>(vision.order.get()[i])) = 1;
  TensorSpec const& spec = bundle.graphs.at("vision_encode").tensor("features");
  std::string const descr = spec.dtype == "float32" ? "<f4" : spec.dtype == "float16" ? "<f2" : "<u2";
  int64_t const width = spec.shape[1].size;
  write_npy(features_file, descr, {kept, width}, vision.features.get(), vision.bytes);
  write_npy(keep_file, "|b1", {count, groups}, keep.data(), keep.size());
  std::cout << "engines " << files.at("vision_score").parent_path().filename().string() << "\n"
            << "kept " << kept << " of " << keep.size() << " groups of " << frames.count << " frames, encoded in "
            << vision.encoder_runs << (vision.encoder_runs == 1 ? " run\n" : " runs\n") << "features [" << kept << ", "
            << width << "] " << spec.dtype << ", " << taken.count() << " ms after the first frame\n";
}

}  // namespace
}  // namespace stts

int main(int count, char** words) {
  if (count != 5 && count != 6) {
    std::cerr << "frames_to_features BUNDLE FRAMES FEATURES.npy KEEP.npy [FRACTION]\n";
    return 2;
  }
  try {
    stts::run(words[1], words[2], words[3], words[4], count == 6 ? words[5] : "");
    return 0;
  } catch (std::exception const& error) {
    std::cerr << "frames_to_features: " << error.what() << "\n";
    return 1;
  }
}
