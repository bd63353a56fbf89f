#include "contract.h"

#include <cstring>

#include "log.h"

namespace stts {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

PluginField const* find(PluginFieldCollection const& fields, char const* name) noexcept {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    if (std::strcmp(fields.fields[i].name, name) == 0) return &fields.fields[i];
  }
  return nullptr;
}

bool is_known(Contract const& contract, char const* name) noexcept {
  if (std::strcmp(name, "contract") == 0) return true;
  for (Attribute const& attribute : contract.attributes) {
    if (std::strcmp(name, attribute.name) == 0) return true;
  }
  return false;
}

bool read_integer(Contract const& contract, PluginFieldCollection const& fields, char const* name,
                  int64_t& value) noexcept {
  PluginField const* field = find(fields, name);
  if (field == nullptr || field->data == nullptr) {
    log_error(contract.name, "attribute %s is missing; this library implements contract %d", name, kContract);
    return false;
  }
  bool const is_short = field->type == PluginFieldType::kINT32, is_long = field->type == PluginFieldType::kINT64;
  if (field->length != 1 || !(is_short || is_long)) {
    log_error(contract.name, "attribute %s has type %d and length %d, wanted one int32", name,
              static_cast<int>(field->type), field->length);
    return false;
  }
  if (is_long) {
    std::memcpy(&value, field->data, sizeof value);
  } else {
    int32_t narrow = 0;
    std::memcpy(&narrow, field->data, sizeof narrow);
    value = narrow;
  }
  return true;
}

}  // namespace

char const* type_name(DataType type) noexcept {
  switch (type) {
    case DataType::kFLOAT: return "float32";
    case DataType::kHALF: return "float16";
    case DataType::kBF16: return "bfloat16";
    case DataType::kINT8: return "int8";
    case DataType::kINT32: return "int32";
    case DataType::kINT64: return "int64";
    case DataType::kBOOL: return "bool";
    default: return "another type";
  }
}

bool read_attributes(Contract const& contract, PluginFieldCollection const* fields,
                     std::vector<int32_t>& values) noexcept {
  if (fields == nullptr) {
    log_error(contract.name, "was given no attributes");
    return false;
  }
  int64_t version = 0;
  if (!read_integer(contract, *fields, "contract", version)) return false;
  if (version != kContract) {
    log_error(contract.name,
              "graph or engine was made for contract %lld, and this libstts_trt.so implements contract %d: "
              "take the library of the bundle, or build the bundle again",
              static_cast<long long>(version), kContract);
    return false;
  }
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    if (!is_known(contract, fields->fields[i].name)) {
      log_error(contract.name, "attribute %s is unknown to contract %d", fields->fields[i].name, kContract);
      return false;
    }
  }
  values.clear();
  for (Attribute const& attribute : contract.attributes) {
    int64_t value = 0;
    if (!read_integer(contract, *fields, attribute.name, value)) return false;
    if (value < attribute.least || value > attribute.most) {
      log_error(contract.name, "attribute %s is %lld, wanted %d to %d", attribute.name, static_cast<long long>(value),
                attribute.least, attribute.most);
      return false;
    }
    values.push_back(static_cast<int32_t>(value));
  }
  return true;
}

}  // namespace stts
