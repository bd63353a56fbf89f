// Loads libstts_trt.so and calls its plugins as TensorRT does, from a graph's attributes to `enqueue`, over the
// stand-in for libcuda that LD_LIBRARY_PATH leads to.
//
//   harness LIBRARY CASES DATA OUTPUTS
//
// reads cases (case.h), writes the bytes of all outputs to OUTPUTS, and one line of JSON a case to stdout: either
//   {"outputs": [["float32", [4, 8]], ...], "workspace": 0, "accepted": [["float32"], ...], "serialized": {"pool": 3}}
// or the call that refused, with what the plugin said to TensorRT's logger
//   {"refused": "onShapeChange", "messages": ["..."]}

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "case.h"
#include "shapes.h"

using namespace nvinfer1;

namespace stts {
namespace {

struct Messages final : ILogger, ILoggerFinder {
  void log(Severity, char const* message) noexcept override { lines.emplace_back(message); }
  ILogger* findLogger() override { return this; }
  std::vector<std::string> lines;
};

// A call of the plugin's that refused.
struct Refused {
  char const* call;
};

void check(bool accepted, char const* call) {
  if (!accepted) throw Refused{call};
}

// What a plugin must never do, whatever it is given.
void require(bool holds, char const* what) {
  if (!holds) throw std::logic_error(what);
}

template <class Call>
Call* find(void* library, char const* name) {
  auto* call = reinterpret_cast<Call*>(dlsym(library, name));
  if (call == nullptr) throw std::runtime_error(std::string("no ") + name + " is exported");
  return call;
}

struct Library {
  explicit Library(char const* path) {
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    find<void(ILoggerFinder*)>(library, "setLoggerFinder")(&messages);
    creators = find<IPluginCreatorInterface* const*(int32_t&)>(library, "getCreators")(count);
    // The driver that the library will find: its calls are watched.
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver == nullptr) throw std::runtime_error(dlerror());
    only_launch = find<void(int)>(driver, "standin_only_launch");
    loaded_modules = find<int()>(driver, "standin_loaded_modules");
  }

  IPluginCreatorV3One& creator(std::string const& name) const {
    for (int32_t i = 0; i < count; ++i) {
      auto* creator = static_cast<IPluginCreatorV3One*>(creators[i]);
      if (name == creator->getPluginName() && std::strcmp(creator->getPluginVersion(), "1") == 0 &&
          std::strcmp(creator->getPluginNamespace(), "") == 0) {
        return *creator;
      }
    }
    throw std::runtime_error("no plugin is called " + name);
  }

  Messages messages;
  IPluginCreatorInterface* const* creators = nullptr;
  int32_t count = 0;
  void (*only_launch)(int) = nullptr;
  int (*loaded_modules)() = nullptr;
};

using PluginPointer = std::unique_ptr<IPluginV3>;

IPluginV3OneBuild& building(IPluginV3& plugin) {
  auto* capability = plugin.getCapabilityInterface(PluginCapabilityType::kBUILD);
  require(capability != nullptr, "a plugin has no side for building");
  return *static_cast<IPluginV3OneBuild*>(capability);
}

IPluginV3OneRuntime& running(IPluginV3& plugin) {
  auto* capability = plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME);
  require(capability != nullptr, "a plugin has no side for running");
  return *static_cast<IPluginV3OneRuntime*>(capability);
}

std::string quoted(std::string const& text) {
  std::string out = "\"";
  for (char letter : text) {
    if (letter == '"' || letter == '\\') out += '\\';
    out += letter;
  }
  return out + '"';
}

template <class Items, class Text>
std::string listed(Items const& items, Text text) {
  std::string out;
  for (auto const& item : items) out += (out.empty() ? "" : ", ") + text(item);
  return out;
}

std::vector<PluginField> fields_of(Case const& one) {
  std::vector<PluginField> fields;
  for (auto const& [name, value] : one.attributes) {
    fields.emplace_back(name.c_str(), &value, PluginFieldType::kINT32, 1);
  }
  return fields;
}

PluginPointer made_by(Library& library, Case const& one, std::vector<PluginField> const& fields, TensorRTPhase phase) {
  PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
  PluginPointer plugin(library.creator(one.plugin).createPlugin("layer", &collection, phase));
  check(plugin != nullptr, "createPlugin");
  return plugin;
}

// Descriptions of all tensors, inputs first: what building and running ask with.
struct Tensors {
  int32_t inputs = 0, outputs = 0;
  std::vector<PluginTensorDesc> described;
  std::vector<DynamicPluginTensorDesc> ranged;
  std::vector<std::vector<std::string>> accepted;
};

PluginTensorDesc description(DataType type, Dims const& dims) {
  PluginTensorDesc made{};
  made.type = type;
  made.dims = dims;
  made.format = TensorFormat::kLINEAR;
  made.scale = 1;
  return made;
}

Tensors shaped(Case const& one, IPluginV3OneBuild& plugin) {
  Tensors tensors;
  tensors.inputs = static_cast<int32_t>(one.inputs.size());
  tensors.outputs = plugin.getNbOutputs();
  std::vector<DataType> types, output_types(tensors.outputs);
  for (Array const& input : one.inputs) types.push_back(input.type);
  check(plugin.getOutputDataTypes(output_types.data(), tensors.outputs, types.data(), tensors.inputs) == 0,
        "getOutputDataTypes");
  std::deque<Number> sizes;
  std::vector<DimsExprs> input_shapes(tensors.inputs), output_shapes(tensors.outputs);
  for (int32_t i = 0; i < tensors.inputs; ++i) {
    input_shapes[i].nbDims = one.inputs[i].dims.nbDims;
    for (int32_t d = 0; d < input_shapes[i].nbDims; ++d) {
      input_shapes[i].d[d] = &sizes.emplace_back(one.inputs[i].dims.d[d]);
    }
  }
  Numbers builder;
  check(plugin.getOutputShapes(input_shapes.data(), tensors.inputs, nullptr, 0, output_shapes.data(), tensors.outputs,
                               builder) == 0,
        "getOutputShapes");
  for (Array const& input : one.inputs) tensors.described.push_back(description(input.type, input.dims));
  for (int32_t i = 0; i < tensors.outputs; ++i) {
    Dims dims{};
    dims.nbDims = output_shapes[i].nbDims;
    for (int32_t d = 0; d < dims.nbDims; ++d) dims.d[d] = output_shapes[i].d[d]->getConstantValue();
    tensors.described.push_back(description(output_types[i], dims));
  }
  for (PluginTensorDesc const& one_tensor : tensors.described) {
    tensors.ranged.push_back({one_tensor, one_tensor.dims, one_tensor.dims, one_tensor.dims});
  }
  return tensors;
}

// Asks for every type of every tensor, those before it being as they are, and for a layout that nobody takes.
void ask_for_formats(Tensors& tensors, IPluginV3OneBuild& plugin) {
  for (size_t place = 0; place < tensors.ranged.size(); ++place) {
    auto asked = tensors.ranged;
    auto const takes = [&] {
      return plugin.supportsFormatCombination(static_cast<int32_t>(place), asked.data(), tensors.inputs,
                                              tensors.outputs);
    };
    tensors.accepted.emplace_back();
    for (TypeRow const& row : kTypes) {
      asked[place].desc.type = row.type;
      if (takes()) tensors.accepted.back().emplace_back(row.name);
    }
    asked[place] = tensors.ranged[place];
    check(takes(), "supportsFormatCombination");
    asked[place].desc.format = TensorFormat::kCHW32;
    require(!takes(), "a plugin takes a layout other than the linear one");
  }
}

// What an engine stores, owned as an engine owns it.
struct Stored {
  explicit Stored(PluginFieldCollection const& from) : values(from.nbFields) {
    for (int32_t i = 0; i < from.nbFields; ++i) {
      PluginField const& field = from.fields[i];
      require(field.type == PluginFieldType::kINT32 && field.length == 1, "a field that is no int32 is serialised");
      names.emplace_back(field.name);
      std::memcpy(&values[i], field.data, sizeof(int32_t));
    }
  }

  std::vector<PluginField> fields() const {
    std::vector<PluginField> made;
    for (size_t i = 0; i < names.size(); ++i) {
      made.emplace_back(names[i].c_str(), &values[i], PluginFieldType::kINT32, 1);
    }
    return made;
  }

  std::string json() const {
    std::string out;
    for (size_t i = 0; i < names.size(); ++i) {
      out += (i ? ", " : "") + quoted(names[i]) + ": " + std::to_string(values[i]);
    }
    return "{" + out + "}";
  }

  std::vector<std::string> names;
  std::vector<int32_t> values;
};

void enqueue_once(Library& library, IPluginV3OneRuntime& plugin, Tensors const& tensors,
                  std::vector<void const*> const& inputs, std::vector<void*> const& outputs, void* workspace) {
  library.only_launch(1);
  int32_t const code = plugin.enqueue(tensors.described.data(), tensors.described.data() + tensors.inputs,
                                      inputs.data(), outputs.data(), workspace, nullptr);
  library.only_launch(0);
  check(code == 0, "enqueue");
}

// From the graph's node to its outputs, with every step that TensorRT takes in between.
std::string run(Library& library, Case const& one, std::ostream& out) {
  PluginPointer first = made_by(library, one, fields_of(one), TensorRTPhase::kBUILD);
  PluginPointer plugin(first->clone());
  first.reset();
  Tensors tensors = shaped(one, building(*plugin));
  ask_for_formats(tensors, building(*plugin));
  check(building(*plugin).configurePlugin(tensors.ranged.data(), tensors.inputs, tensors.ranged.data() + tensors.inputs,
                                          tensors.outputs) == 0,
        "configurePlugin");
  size_t const workspace_bytes = building(*plugin).getWorkspaceSize(
      tensors.ranged.data(), tensors.inputs, tensors.ranged.data() + tensors.inputs, tensors.outputs);
  Stored const stored(*running(*plugin).getFieldsToSerialize());
  plugin.reset();

  PluginPointer const loaded = made_by(library, one, stored.fields(), TensorRTPhase::kRUNTIME);
  require(Stored(*running(*loaded).getFieldsToSerialize()).json() == stored.json(), "fields change as they are stored");
  PluginPointer const attached(running(*loaded).attachToContext(nullptr));
  check(attached != nullptr, "attachToContext");
  check(running(*attached).onShapeChange(tensors.described.data(), tensors.inputs,
                                         tensors.described.data() + tensors.inputs, tensors.outputs) == 0,
        "onShapeChange");

  Buffer const workspace(workspace_bytes);
  std::vector<void const*> inputs;
  for (Array const& input : one.inputs) inputs.push_back(input.data.data());
  std::vector<Buffer> buffers;
  std::vector<void*> outputs;
  std::vector<std::string> shapes;
  for (int32_t i = 0; i < tensors.outputs; ++i) {
    PluginTensorDesc const& output = tensors.described[tensors.inputs + i];
    size_t bytes = row_of(output.type).bytes;
    std::vector<int64_t> const sizes(output.dims.d, output.dims.d + output.dims.nbDims);
    for (int64_t size : sizes) bytes *= static_cast<size_t>(size);
    outputs.push_back(buffers.emplace_back(bytes, one.offset).data());
    shapes.push_back("[" + quoted(row_of(output.type).name) + ", [" +
                     listed(sizes, [](int64_t size) { return std::to_string(size); }) + "]]");
  }
  // Twice: what an engine runs a second time finds the first one's outputs and workspace.
  enqueue_once(library, running(*attached), tensors, inputs, outputs, workspace.data());
  enqueue_once(library, running(*attached), tensors, inputs, outputs, workspace.data());
  for (Buffer const& buffer : buffers) {
    out.write(static_cast<char const*>(buffer.data()), static_cast<std::streamsize>(buffer.bytes()));
  }
  auto const text = [](std::string const& item) { return item; };
  auto const names = [](std::vector<std::string> const& types) { return "[" + listed(types, quoted) + "]"; };
  return "{\"outputs\": [" + listed(shapes, text) + "], \"workspace\": " + std::to_string(workspace_bytes) +
         ", \"accepted\": [" + listed(tensors.accepted, names) + "], \"serialized\": " + stored.json() + "}";
}

int run_all(char const* path, char const* cases, char const* data, char const* outputs) {
  Library library(path);
  std::ifstream text(cases), numbers(data, std::ios::binary);
  std::ofstream out(outputs, std::ios::binary);
  for (Case one; read_case(text, numbers, one);) {
    library.messages.lines.clear();
    std::string line;
    try {
      line = run(library, one, out);
      require(library.messages.lines.empty(), "a plugin complains, and goes on");
    } catch (Refused const& refused) {
      line =
          "{\"refused\": " + quoted(refused.call) + ", \"messages\": [" + listed(library.messages.lines, quoted) + "]}";
    }
    require(library.loaded_modules() == 0, "kernels stay loaded behind the last plugin");
    std::puts(line.c_str());
  }
  return 0;
}

}  // namespace
}  // namespace stts

int main(int count, char** words) {
  if (count != 5) {
    std::fprintf(stderr, "harness LIBRARY CASES DATA OUTPUTS\n");
    return 2;
  }
  try {
    return stts::run_all(words[1], words[2], words[3], words[4]);
  } catch (std::exception const& error) {
    std::fprintf(stderr, "harness: %s\n", error.what());
    return 1;
  }
}
