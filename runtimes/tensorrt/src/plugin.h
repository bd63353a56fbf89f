// The base of every plugin: all that IPluginV3 asks and that follows from the contract's table. An operator adds its
// output shapes, what it checks of input shapes, and a launch.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <vector>

#include "contract.h"
#include "kernel.h"

namespace stts {

using Descriptions = nvinfer1::PluginTensorDesc const*;

class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  Plugin(Contract const& contract, std::vector<int32_t> attributes);

  // What an operator says. All that return bool have said by `refuse` what is wrong where they return false.

  // A new plugin with the same attributes, without kernels.
  virtual Plugin* copy() const = 0;
  // Shapes of the outputs; ranks of the inputs are checked already.
  virtual bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                             nvinfer1::IExprBuilder& builder) const noexcept = 0;
  // Bytes of workspace at these (largest) shapes.
  virtual size_t workspace(nvinfer1::DynamicPluginTensorDesc const* inputs) const noexcept;
  // Loads kernels into the current CUDA context.
  virtual bool attach() noexcept = 0;
  // Checks shapes, types and ranks being right already, and keeps what `launch` needs of them.
  virtual bool take_shapes(Descriptions inputs, Descriptions outputs) noexcept = 0;
  // Launches kernels and does nothing else: a CUDA graph may be recording. 0 or a CUresult.
  virtual int launch(void const* const* inputs, void* const* outputs, void* workspace,
                     cudaStream_t stream) const noexcept = 0;

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept final;
  nvinfer1::IPluginV3* clone() noexcept final;
  // IPluginV3OneCore
  char const* getPluginName() const noexcept final { return contract_.name; }
  char const* getPluginVersion() const noexcept final { return "1"; }
  char const* getPluginNamespace() const noexcept final { return ""; }
  // IPluginV3OneBuild
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t input_count,
                          nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t output_count) noexcept final;
  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count, nvinfer1::DataType const* inputs,
                             int32_t input_count) const noexcept final;
  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t input_count, nvinfer1::DimsExprs const*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept final;
  bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
                                 int32_t input_count, int32_t output_count) noexcept final;
  int32_t getNbOutputs() const noexcept final;
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t,
                          nvinfer1::DynamicPluginTensorDesc const*, int32_t) const noexcept final;
  // IPluginV3OneRuntime
  int32_t onShapeChange(Descriptions inputs, int32_t input_count, Descriptions outputs,
                        int32_t output_count) noexcept final;
  int32_t enqueue(Descriptions, Descriptions, void const* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept final;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept final;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept final;

 protected:
  // Says what is wrong behind the plugin's name; returns false, so that a check may end in `return refuse(...)`.
  [[gnu::format(printf, 2, 3)]] bool refuse(char const* format, ...) const noexcept;

  char const* name() const noexcept { return contract_.name; }
  int32_t attribute(size_t place) const noexcept { return attributes_[place]; }
  std::vector<int32_t> const& attributes() const noexcept { return attributes_; }

 private:
  bool has_counts(int32_t inputs, int32_t outputs) const noexcept;
  bool check_type(char const* kind, Tensor const& tensor, nvinfer1::DataType type,
                  nvinfer1::DataType const* inputs) const noexcept;
  bool check_rank(Tensor const& tensor, int32_t rank) const noexcept;

  Contract const& contract_;
  std::vector<int32_t> attributes_;
  bool shaped_ = false;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// What the registry makes plugins by, from a graph's attributes or from what an engine has serialised.
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  using Make = Plugin* (*)(std::vector<int32_t> attributes);

  Creator(Contract const& contract, Make make);

  nvinfer1::IPluginV3* createPlugin(char const* layer, nvinfer1::PluginFieldCollection const* fields,
                                    nvinfer1::TensorRTPhase) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return &collection_; }
  char const* getPluginName() const noexcept override { return contract_.name; }
  char const* getPluginVersion() const noexcept override { return "1"; }
  char const* getPluginNamespace() const noexcept override { return ""; }

 private:
  Contract const& contract_;
  Make make_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// One a plugin, defined at the end of its operator's plugin.cpp and listed in library.cpp.
#define STTS_CREATOR(function, Class)                                                          \
  nvinfer1::IPluginCreatorInterface* function() {                                              \
    static Creator creator(Class::contract(), [](std::vector<int32_t> attributes) -> Plugin* { \
      return new Class(std::move(attributes));                                                 \
    });                                                                                        \
    return &creator;                                                                           \
  }

}  // namespace stts
