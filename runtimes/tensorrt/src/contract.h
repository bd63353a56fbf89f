// What an operator's plugin tells TensorRT of itself, as data: the same table answers for types, formats and counts,
// and refuses by name.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <vector>

namespace stts {

// Written into every graph and engine; what was made for another one is refused. It counts up when an operator changes
// its meaning: 1 took frames for squares, 2 is told their `columns`.
constexpr int32_t kContract = 2;

// Sets of types, for `Tensor::types`.
constexpr uint32_t only(nvinfer1::DataType type) noexcept { return 1u << static_cast<int>(type); }
constexpr uint32_t kHalves = only(nvinfer1::DataType::kHALF) | only(nvinfer1::DataType::kBF16);
constexpr uint32_t kFloats = kHalves | only(nvinfer1::DataType::kFLOAT);

struct Tensor {
  char const* name;
  int32_t rank;
  uint32_t types;     // which an input may have; an output that is like no input has exactly one
  int32_t like = -1;  // input whose type it has instead
};

// An int32 attribute, required.
struct Attribute {
  char const* name;
  int32_t least, most;
};

struct Contract {
  char const* name;  // of the plugin: `SttsPackTokens`
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::vector<Attribute> attributes;
};

// `float16`, as users spell it.
char const* type_name(nvinfer1::DataType type) noexcept;

// Whether the tensor may have `type`, where inputs have the types `of_input(i)`.
template <class OfInput>
bool takes(Tensor const& tensor, nvinfer1::DataType type, OfInput of_input) noexcept {
  return tensor.like < 0 ? (tensor.types & only(type)) != 0 : type == of_input(tensor.like);
}

// The attributes of `fields` in the contract's order, after its version was checked. False, said by name, where the
// version is another or missing, or an attribute is missing, unknown, no int32 or int64, or out of its range.
bool read_attributes(Contract const& contract, nvinfer1::PluginFieldCollection const* fields,
                     std::vector<int32_t>& values) noexcept;

}  // namespace stts
