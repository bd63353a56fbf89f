// An IExprBuilder over plain numbers, so that a plugin's shape function can be called without TensorRT: the interface's
// classes only forward to two others, which the headers declare.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdint>
#include <deque>

namespace stts {

class Number final : public nvinfer1::IDimensionExpr {
 public:
  explicit Number(int64_t value) : value_(value) { mImpl = &value_; }
  ~Number() noexcept override = default;

 private:
  struct Value final : nvinfer1::apiv::VDimensionExpr {
    explicit Value(int64_t number) : number(number) {}
    bool isConstant() const override { return true; }
    int64_t getConstantValue() const override { return number; }
    bool isSizeTensor() const override { return false; }
    int64_t number;
  } value_;
};

class Numbers final : public nvinfer1::IExprBuilder {
 public:
  Numbers() { mImpl = &values_; }
  ~Numbers() noexcept override = default;

 private:
  struct Values final : nvinfer1::apiv::VExprBuilder {
    nvinfer1::IDimensionExpr const* constant(int64_t value) override { return &numbers.emplace_back(value); }

    nvinfer1::IDimensionExpr const* operation(nvinfer1::DimensionOperation operation,
                                              nvinfer1::IDimensionExpr const& first,
                                              nvinfer1::IDimensionExpr const& second) override {
      int64_t const a = first.getConstantValue(), b = second.getConstantValue();
      switch (operation) {
        case nvinfer1::DimensionOperation::kSUM: return constant(a + b);
        case nvinfer1::DimensionOperation::kPROD: return constant(a * b);
        case nvinfer1::DimensionOperation::kMAX: return constant(std::max(a, b));
        case nvinfer1::DimensionOperation::kMIN: return constant(std::min(a, b));
        case nvinfer1::DimensionOperation::kSUB: return constant(a - b);
        case nvinfer1::DimensionOperation::kEQUAL: return constant(a == b);
        case nvinfer1::DimensionOperation::kLESS: return constant(a < b);
        case nvinfer1::DimensionOperation::kFLOOR_DIV: return constant(a / b);
        case nvinfer1::DimensionOperation::kCEIL_DIV: return constant((a + b - 1) / b);
      }
      return nullptr;
    }

    nvinfer1::IDimensionExpr const* declareSizeTensor(int32_t, nvinfer1::IDimensionExpr const& optimum,
                                                      nvinfer1::IDimensionExpr const&) override {
      return &optimum;
    }

    std::deque<Number> numbers;  // which keeps them in place as it grows
  } values_;
};

}  // namespace stts
