// Stands in for libnvinfer.so: engines whose tensors, types and ranges a text says, and which another process runs.
// unused_calls.h, made from TensorRT's headers, has all other calls of its interfaces; they end the process.
//
//   STTS_STANDIN_FD         socket to who runs engines: `PART SYMBOL=SIZE ...` and the inputs' bytes go there in the
//                           order of the engine's text; a byte, 0 where all went well, and the outputs' bytes come back
//   STTS_STANDIN_TENSORRT   version that it pretends to be, 100300 for 10.3.0
//
// An engine:
//   engine PART
//   dim SYMBOL LEAST MOST [OTHER] makes SYMBOL, which no input has, OTHER + 1
//   input|output NAME TYPE SIZE|SYMBOL ...

#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "device.h"
#include "unused_calls.h"

using namespace nvinfer1;

namespace {

struct Tensor {
  std::string name, type;
  bool is_input;
  std::vector<std::string> sizes;
};

struct Range {
  int64_t least = 0, most = 0;
  std::string one_less;
};

struct Description {
  std::string part;
  std::vector<Tensor> tensors;
  std::map<std::string, Range> dims;

  Tensor const* find(std::string const& name) const {
    for (Tensor const& tensor : tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  int64_t size(std::string const& word, OptProfileSelector which) const {
    auto const found = dims.find(word);
    if (found == dims.end()) return std::stoll(word);
    return which == OptProfileSelector::kMIN ? found->second.least : found->second.most;
  }
};

std::map<std::string, std::pair<DataType, size_t>> const types{
    {"float32", {DataType::kFLOAT, 4}}, {"float16", {DataType::kHALF, 2}}, {"bfloat16", {DataType::kBF16, 2}},
    {"int32", {DataType::kINT32, 4}},   {"int64", {DataType::kINT64, 8}},
};

ILogger* logger = nullptr;

bool refuse(std::string const& why) {
  logger->log(ILogger::Severity::kERROR, why.c_str());
  return false;
}

int socket_to_who_runs() {
  char const* text = std::getenv("STTS_STANDIN_FD");
  if (text == nullptr) standin::misused("STTS_STANDIN_FD is not set: nobody runs engines");
  return std::atoi(text);
}

void send(void const* start, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    ssize_t const count = write(socket_to_who_runs(), static_cast<char const*>(start) + at, bytes - at);
    if (count <= 0) standin::misused("who runs engines is gone");
    at += static_cast<size_t>(count);
  }
}

void receive(void* start, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    ssize_t const count = read(socket_to_who_runs(), static_cast<char*>(start) + at, bytes - at);
    if (count <= 0) standin::misused("who runs engines is gone");
    at += static_cast<size_t>(count);
  }
}

// What a context knows of a tensor: an input's sizes and anyone's address.
struct Binding {
  Dims dims{};
  void* address = nullptr;
};

class Context final : public IExecutionContext {
 public:
  explicit Context(Description const& engine) : calls_(engine) { mImpl = &calls_; }

 private:
  struct Calls final : apiv::UnusedVExecutionContext {
    explicit Calls(Description const& description) : engine(description) {}

    bool setInputShape(char const* name, Dims const& dims) noexcept override {
      Tensor const* tensor = engine.find(name);
      if (tensor == nullptr || !tensor->is_input) return refuse(std::string(name) + " is no input");
      for (int32_t i = 0; i < dims.nbDims; ++i) {
        std::string const& word = tensor->sizes[static_cast<size_t>(i)];
        if (dims.d[i] < engine.size(word, OptProfileSelector::kMIN) ||
            dims.d[i] > engine.size(word, OptProfileSelector::kMAX)) {
          return refuse(std::string(name) + ": " + word + " is out of the profile's range");
        }
      }
      bindings[name].dims = dims;
      return true;
    }

    Dims getTensorShape(char const* name) const noexcept override {
      Tensor const& tensor = *engine.find(name);
      if (tensor.is_input) return bindings.at(name).dims;
      Dims dims{static_cast<int32_t>(tensor.sizes.size()), {}};
      for (size_t i = 0; i < tensor.sizes.size(); ++i) dims.d[i] = value_of(tensor.sizes[i]);
      return dims;
    }

    bool setTensorAddress(char const* name, void* address) noexcept override {
      if (engine.find(name) == nullptr) return refuse(std::string(name) + " is no tensor");
      if (reinterpret_cast<uintptr_t>(address) % 256 != 0) return refuse(std::string(name) + " is not aligned");
      bindings[name].address = address;
      return true;
    }

    bool enqueueV3(cudaStream_t stream) noexcept override {
      std::string line = engine.part;
      for (auto const& [symbol, range] : engine.dims) line += " " + symbol + "=" + std::to_string(value_of(symbol));
      std::vector<std::pair<char*, size_t>> inputs, outputs;
      for (Tensor const& tensor : engine.tensors) {
        Dims const dims = getTensorShape(tensor.name.c_str());
        size_t bytes = types.at(tensor.type).second;
        for (int32_t i = 0; i < dims.nbDims; ++i) bytes *= static_cast<size_t>(dims.d[i]);
        char* const start = standin::on_host(bindings.at(tensor.name).address, bytes);
        (tensor.is_input ? inputs : outputs).emplace_back(start, bytes);
      }
      standin::put(stream, [line = line + "\n", inputs, outputs] {
        send(line.data(), line.size());
        for (auto const& [start, bytes] : inputs) send(start, bytes);
        char failed = 1;
        receive(&failed, 1);
        if (failed == 0) {
          for (auto const& [start, bytes] : outputs) receive(start, bytes);
        }
        return failed == 0;
      });
      return true;
    }

    // Of a symbol, by the inputs that have it, which must agree.
    int64_t value_of(std::string const& word) const {
      auto const found = engine.dims.find(word);
      if (found == engine.dims.end()) return std::stoll(word);
      if (!found->second.one_less.empty()) return value_of(found->second.one_less) + 1;
      int64_t value = -1;
      for (Tensor const& tensor : engine.tensors) {
        for (size_t i = 0; tensor.is_input && i < tensor.sizes.size(); ++i) {
          if (tensor.sizes[i] != word) continue;
          int64_t const own = bindings.at(tensor.name).dims.d[i];
          if (value != -1 && value != own) standin::misused("inputs disagree about a size");
          value = own;
        }
      }
      return value;
    }

    Description const& engine;
    std::map<std::string, Binding> bindings;
  } calls_;
};

class Engine final : public ICudaEngine {
 public:
  explicit Engine(std::string const& text) : calls_(text) { mImpl = &calls_; }

 private:
  struct Calls final : apiv::UnusedVCudaEngine {
    explicit Calls(std::string const& text) {
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string kind, name;
        words >> kind >> name;
        if (kind == "engine") {
          engine.part = name;
        } else if (kind == "dim") {
          Range& range = engine.dims[name];
          words >> range.least >> range.most >> range.one_less;
        } else {
          Tensor tensor{name, "", kind == "input", {}};
          words >> tensor.type;
          for (std::string size; words >> size;) tensor.sizes.push_back(size);
          engine.tensors.push_back(tensor);
        }
      }
    }

    int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(engine.tensors.size()); }
    char const* getIOTensorName(int32_t index) const noexcept override {
      return engine.tensors[static_cast<size_t>(index)].name.c_str();
    }
    DataType getTensorDataType(char const* name) const noexcept override {
      return types.at(engine.find(name)->type).first;
    }
    TensorIOMode getTensorIOMode(char const* name) const noexcept override {
      Tensor const* tensor = engine.find(name);
      return tensor == nullptr ? TensorIOMode::kNONE : tensor->is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    Dims getTensorShape(char const* name) const noexcept override {
      Tensor const& tensor = *engine.find(name);
      Dims dims{static_cast<int32_t>(tensor.sizes.size()), {}};
      for (size_t i = 0; i < tensor.sizes.size(); ++i) {
        dims.d[i] = engine.dims.count(tensor.sizes[i]) == 1 ? -1 : std::stoll(tensor.sizes[i]);
      }
      return dims;
    }
    Dims getProfileShape(char const* name, int32_t, OptProfileSelector which) const noexcept override {
      Dims dims = getTensorShape(name);
      for (int32_t i = 0; i < dims.nbDims; ++i) {
        dims.d[i] = engine.size(engine.find(name)->sizes[static_cast<size_t>(i)], which);
      }
      return dims;
    }
    IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
      return new Context(engine);
    }

    Description engine;
  } calls_;
};

class Runtime final : public IRuntime {
 public:
  Runtime() { mImpl = &calls_; }

 private:
  struct Calls final : apiv::UnusedVRuntime {
    ICudaEngine* deserializeCudaEngine(void const* blob, size_t size) noexcept override {
      std::string const text(static_cast<char const*>(blob), size);
      if (text.rfind("engine ", 0) == 0) return new Engine(text);
      refuse("no engine of this stand-in");
      return nullptr;
    }
  } calls_;
};

// Takes a library of plugins as TensorRT does, by its two exported calls.
struct Registry final : apiv::UnusedIPluginRegistry {
  void* loadLibrary(char const* path) noexcept override {
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    auto* const creators = library == nullptr ? nullptr : dlsym(library, "getCreators");
    int32_t count = 0;
    if (creators != nullptr) reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(creators)(count);
    return count > 0 ? library : nullptr;
  }
};

}  // namespace

extern "C" {

void* createInferRuntime_INTERNAL(void* the_logger, int32_t version) noexcept {
  if (version != NV_TENSORRT_VERSION) return nullptr;
  logger = static_cast<ILogger*>(the_logger);
  return static_cast<IRuntime*>(new Runtime);
}

IPluginRegistry* getPluginRegistry() noexcept {
  static Registry registry;
  return &registry;
}

int32_t getInferLibVersion() noexcept { return std::atoi(std::getenv("STTS_STANDIN_TENSORRT")); }

}  // extern "C"
