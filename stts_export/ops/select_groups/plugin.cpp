// SttsSelectGroups: the contract is in README.md, the kernel in kernel.cu.

#include "plugin.h"

#include <climits>
#include <utility>

namespace stts {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;

constexpr unsigned kThreads = 1024;

class SelectGroups final : public Plugin {
 public:
  explicit SelectGroups(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    static Contract const contract{"SttsSelectGroups",
                                   {{"scores", 2, only(DataType::kFLOAT)}, {"kept", 1, only(DataType::kINT64)}},
                                   {{"keep", 2, only(DataType::kBOOL)},
                                    {"order", 1, only(DataType::kINT64)},
                                    {"cumulative_groups", 1, only(DataType::kINT64)}},
                                   {}};
    return contract;
  }

  Plugin* copy() const override { return new SelectGroups(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder& builder) const noexcept override {
    outputs[0] = inputs[0];
    outputs[1].d[0] = inputs[1].d[0];
    outputs[2].d[0] = builder.operation(DimensionOperation::kSUM, *inputs[0].d[0], *builder.constant(1));
    return true;
  }

  size_t workspace(nvinfer1::DynamicPluginTensorDesc const* inputs) const noexcept override {
    return scratch_words(inputs[0].max.d[0] * inputs[0].max.d[1]) * sizeof(unsigned);
  }

  bool attach() noexcept override { return kernel_.load(name(), "select_groups", "select_groups"); }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    int64_t const frames = inputs[0].dims.d[0], groups = inputs[0].dims.d[1], kept = inputs[1].dims.d[0];
    if (frames < 1 || groups < 1 || frames > INT_MAX / groups) {
      return refuse("scores are of %lld frames of %lld groups, wanted at least one of each and fewer than 2^31 in all",
                    static_cast<long long>(frames), static_cast<long long>(groups));
    }
    if (kept < groups || kept > frames * groups) {
      return refuse(
          "%lld groups are to be kept of %lld frames of %lld, wanted %lld to %lld: the first frame always stays. "
          "The length of `kept` is what plan.kept_groups returns",
          static_cast<long long>(kept), static_cast<long long>(frames), static_cast<long long>(groups),
          static_cast<long long>(groups), static_cast<long long>(frames * groups));
    }
    frames_ = static_cast<int>(frames);
    groups_ = static_cast<int>(groups);
    kept_ = static_cast<int>(kept);
    return true;
  }

  int launch(void const* const* inputs, void* const* outputs, void* workspace,
             cudaStream_t stream) const noexcept override {
    return kernel_.launch(Grid{1}, kThreads, stream, inputs[0], frames_, groups_, kept_, outputs[0], outputs[1],
                          outputs[2], workspace);
  }

 private:
  static size_t scratch_words(int64_t groups) noexcept { return 2 * ((static_cast<size_t>(groups) + 31) / 32); }

  Kernel kernel_;
  int frames_ = 0, groups_ = 0, kept_ = 0;
};

}  // namespace

STTS_CREATOR(select_groups_creator, SelectGroups)

}  // namespace stts
