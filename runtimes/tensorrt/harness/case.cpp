#include "case.h"

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace stts {
namespace {

constexpr size_t kAlignment = 256;

nvinfer1::DataType type_of(std::string const& name) {
  for (TypeRow const& row : kTypes) {
    if (name == row.name) return row.type;
  }
  throw std::runtime_error("unknown type " + name);
}

Array read_input(std::istream& words, std::istream& data, size_t offset) {
  std::string type;
  words >> type;
  nvinfer1::Dims dims{};
  size_t count = 1;
  for (int64_t size; words >> size; ++dims.nbDims) {
    dims.d[dims.nbDims] = size;
    count *= static_cast<size_t>(size);
  }
  Array array{type_of(type), dims, Buffer(count * row_of(type_of(type)).bytes, offset)};
  data.read(static_cast<char*>(array.data.data()), static_cast<std::streamsize>(array.data.bytes()));
  if (!data) throw std::runtime_error("the data of an input is cut off");
  return array;
}

}  // namespace

TypeRow const& row_of(nvinfer1::DataType type) {
  for (TypeRow const& row : kTypes) {
    if (row.type == type) return row;
  }
  throw std::runtime_error("a plugin gives a type that no graph of ours has");
}

Buffer::Buffer(size_t bytes, size_t offset) : start_(nullptr), bytes_(bytes), offset_(offset) {
  void* start = nullptr;
  if (posix_memalign(&start, kAlignment, bytes + offset + (bytes + offset == 0)) != 0) throw std::bad_alloc();
  start_ = static_cast<unsigned char*>(start);
  std::memset(start_, 0xa5, bytes + offset);
}

Buffer::Buffer(Buffer&& other) noexcept : start_(other.start_), bytes_(other.bytes_), offset_(other.offset_) {
  other.start_ = nullptr;
}

Buffer::~Buffer() { std::free(start_); }

bool read_case(std::istream& text, std::istream& data, Case& one) {
  one = Case();
  std::string line;
  while (std::getline(text, line)) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind;
    if (kind == "case") {
      words >> one.plugin;
    } else if (kind == "attribute") {
      int32_t value = 0;
      words >> name >> value;
      one.attributes.emplace_back(name, value);
    } else if (kind == "offset") {
      words >> one.offset;
    } else if (kind == "input") {
      one.inputs.push_back(read_input(words, data, one.offset));
    } else if (kind == "end") {
      return true;
    } else {
      throw std::runtime_error("unknown line: " + line);
    }
  }
  return false;
}

}  // namespace stts
