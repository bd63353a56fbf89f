#include "plugin.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "log.h"

namespace stts {

using namespace nvinfer1;

namespace {

constexpr int32_t kRefused = 1;
PluginField const kContractField{"contract", &kContract, PluginFieldType::kINT32, 1};

}  // namespace

Plugin::Plugin(Contract const& contract, std::vector<int32_t> attributes)
    : contract_(contract), attributes_(std::move(attributes)) {}

size_t Plugin::workspace(DynamicPluginTensorDesc const*) const noexcept { return 0; }

IPluginCapability* Plugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

IPluginV3* Plugin::clone() noexcept { return copy(); }

int32_t Plugin::configurePlugin(DynamicPluginTensorDesc const*, int32_t input_count, DynamicPluginTensorDesc const*,
                                int32_t output_count) noexcept {
  return has_counts(input_count, output_count) ? 0 : kRefused;
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                                   int32_t input_count) const noexcept {
  if (!has_counts(input_count, output_count)) return kRefused;
  for (int32_t i = 0; i < input_count; ++i) {
    if (!check_type("input", contract_.inputs[i], inputs[i], inputs)) return kRefused;
  }
  for (int32_t i = 0; i < output_count; ++i) {
    Tensor const& tensor = contract_.outputs[i];
    outputs[i] = tensor.like < 0 ? static_cast<DataType>(__builtin_ctz(tensor.types)) : inputs[tensor.like];
  }
  return 0;
}

int32_t Plugin::getOutputShapes(DimsExprs const* inputs, int32_t input_count, DimsExprs const*, int32_t,
                                DimsExprs* outputs, int32_t output_count, IExprBuilder& builder) noexcept {
  if (!has_counts(input_count, output_count)) return kRefused;
  for (int32_t i = 0; i < input_count; ++i) {
    if (!check_rank(contract_.inputs[i], inputs[i].nbDims)) return kRefused;
  }
  for (int32_t i = 0; i < output_count; ++i) outputs[i].nbDims = contract_.outputs[i].rank;
  return output_shapes(inputs, outputs, builder) ? 0 : kRefused;
}

bool Plugin::supportsFormatCombination(int32_t position, DynamicPluginTensorDesc const* tensors, int32_t input_count,
                                       int32_t output_count) noexcept {
  if (!has_counts(input_count, output_count) || position < 0 || position >= input_count + output_count) return false;
  Tensor const& tensor =
      position < input_count ? contract_.inputs[position] : contract_.outputs[position - input_count];
  PluginTensorDesc const& asked = tensors[position].desc;
  return asked.format == TensorFormat::kLINEAR &&
         takes(tensor, asked.type, [&](int32_t input) { return tensors[input].desc.type; });
}

int32_t Plugin::getNbOutputs() const noexcept { return static_cast<int32_t>(contract_.outputs.size()); }

size_t Plugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
                                int32_t) const noexcept {
  return workspace(inputs);
}

int32_t Plugin::onShapeChange(Descriptions inputs, int32_t input_count, Descriptions outputs,
                              int32_t output_count) noexcept {
  shaped_ = false;
  if (!has_counts(input_count, output_count)) return kRefused;
  std::vector<DataType> types;
  for (int32_t i = 0; i < input_count; ++i) types.push_back(inputs[i].type);
  for (int32_t i = 0; i < input_count; ++i) {
    Tensor const& tensor = contract_.inputs[i];
    if (!check_type("input", tensor, types[i], types.data()) || !check_rank(tensor, inputs[i].dims.nbDims)) {
      return kRefused;
    }
  }
  for (int32_t i = 0; i < output_count; ++i) {
    Tensor const& tensor = contract_.outputs[i];
    if (!check_type("output", tensor, outputs[i].type, types.data()) || !check_rank(tensor, outputs[i].dims.nbDims)) {
      return kRefused;
    }
  }
  shaped_ = take_shapes(inputs, outputs);
  return shaped_ ? 0 : kRefused;
}

int32_t Plugin::enqueue(Descriptions, Descriptions, void const* const* inputs, void* const* outputs, void* workspace,
                        cudaStream_t stream) noexcept {
  if (!shaped_) {
    refuse("was enqueued with shapes that it refused or was not told");
    return kRefused;
  }
  return launch(inputs, outputs, workspace, stream);
}

IPluginV3* Plugin::attachToContext(IPluginResourceContext*) noexcept {
  Plugin* attached = copy();
  if (attached->attach()) return attached;
  delete attached;
  return nullptr;
}

PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
  fields_ = {kContractField};
  for (size_t i = 0; i < attributes_.size(); ++i) {
    fields_.emplace_back(contract_.attributes[i].name, &attributes_[i], PluginFieldType::kINT32, 1);
  }
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
  return &collection_;
}

bool Plugin::refuse(char const* format, ...) const noexcept {
  char message[768];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  log_error(contract_.name, "%s", message);
  return false;
}

bool Plugin::has_counts(int32_t inputs, int32_t outputs) const noexcept {
  auto const wanted_inputs = static_cast<int32_t>(contract_.inputs.size());
  if (inputs == wanted_inputs && outputs == getNbOutputs()) return true;
  return refuse("has %d inputs and %d outputs, wanted %d and %d", inputs, outputs, wanted_inputs, getNbOutputs());
}

bool Plugin::check_type(char const* kind, Tensor const& tensor, DataType type, DataType const* inputs) const noexcept {
  if (takes(tensor, type, [&](int32_t input) { return inputs[input]; })) return true;
  if (tensor.like >= 0) {
    return refuse("%s %s is %s, wanted the type of %s, %s", kind, tensor.name, type_name(type),
                  contract_.inputs[tensor.like].name, type_name(inputs[tensor.like]));
  }
  char wanted[128] = "";
  int length = 0;
  for (int bit = 0; bit < 32; ++bit) {
    if ((tensor.types >> bit & 1) == 0) continue;
    length += std::snprintf(wanted + length, sizeof wanted - length, "%s%s", length ? " or " : "",
                            type_name(static_cast<DataType>(bit)));
  }
  return refuse("%s %s is %s, wanted %s", kind, tensor.name, type_name(type), wanted);
}

bool Plugin::check_rank(Tensor const& tensor, int32_t rank) const noexcept {
  return rank == tensor.rank || refuse("%s has %d dimensions, wanted %d", tensor.name, rank, tensor.rank);
}

Creator::Creator(Contract const& contract, Make make) : contract_(contract), make_(make) {
  fields_.emplace_back("contract", nullptr, PluginFieldType::kINT32, 1);
  for (Attribute const& attribute : contract.attributes) {
    fields_.emplace_back(attribute.name, nullptr, PluginFieldType::kINT32, 1);
  }
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

IPluginV3* Creator::createPlugin(char const*, PluginFieldCollection const* fields, TensorRTPhase) noexcept {
  std::vector<int32_t> attributes;
  return read_attributes(contract_, fields, attributes) ? make_(std::move(attributes)) : nullptr;
}

}  // namespace stts
