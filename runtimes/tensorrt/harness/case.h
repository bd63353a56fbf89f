// One plugin node with its inputs, as `tests/reference/plugin_harness.py` writes it.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <istream>
#include <string>
#include <utility>
#include <vector>

namespace stts {

// A type's place in TensorRT's enumeration, its name here, and its size.
struct TypeRow {
  nvinfer1::DataType type;
  char const* name;
  size_t bytes;
};

constexpr TypeRow kTypes[] = {
    {nvinfer1::DataType::kFLOAT, "float32", 4}, {nvinfer1::DataType::kHALF, "float16", 2},
    {nvinfer1::DataType::kBF16, "bfloat16", 2}, {nvinfer1::DataType::kINT8, "int8", 1},
    {nvinfer1::DataType::kINT32, "int32", 4},   {nvinfer1::DataType::kINT64, "int64", 8},
    {nvinfer1::DataType::kBOOL, "bool", 1},
};

TypeRow const& row_of(nvinfer1::DataType type);

// Memory of an exact size on the heap, so that a sanitizer sees who reaches beyond it; `offset` bytes off 256.
class Buffer {
 public:
  explicit Buffer(size_t bytes, size_t offset = 0);
  Buffer(Buffer&& other) noexcept;
  Buffer(Buffer const&) = delete;
  ~Buffer();
  void* data() const { return start_ + offset_; }
  size_t bytes() const { return bytes_; }

 private:
  unsigned char* start_;
  size_t bytes_, offset_;
};

struct Array {
  nvinfer1::DataType type;
  nvinfer1::Dims dims;
  Buffer data;
};

struct Case {
  std::string plugin;
  std::vector<std::pair<std::string, int32_t>> attributes;
  std::vector<Array> inputs;
  size_t offset = 0;  // bytes by which all memory is off the 256 that TensorRT aligns to
};

// Reads the next case; false at the end. Data of the inputs follows in `data`.
//   case PLUGIN / attribute NAME VALUE / offset BYTES / input TYPE SIZES... / end
bool read_case(std::istream& text, std::istream& data, Case& one);

}  // namespace stts
