// SttsGroupScore: the contract is in README.md, the kernels in kernel.cu.

#include "plugin.h"

#include <climits>
#include <utility>

#include "frame.h"

namespace stts {
namespace {

using nvinfer1::DataType;

constexpr unsigned kThreads = 256;

class GroupScore final : public Plugin {
 public:
  explicit GroupScore(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    static Contract const contract{"SttsGroupScore",
                                   {{"hidden", 3, kFloats}, {"previous", 2, only(DataType::kFLOAT)}},
                                   {{"scores", 2, only(DataType::kFLOAT)}, {"last", 2, only(DataType::kFLOAT)}},
                                   {{"pool", 1, 64}, {"columns", 1, 65536}}};
    return contract;
  }

  Plugin* copy() const override { return new GroupScore(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder&) const noexcept override {
    outputs[0].d[0] = inputs[0].d[0];
    outputs[0].d[1] = inputs[1].d[0];
    outputs[1] = inputs[1];
    return true;
  }

  bool attach() noexcept override {
    static constexpr char const* kEntries[] = STTS_VARIANTS("group_score");
    return kernels_.load(name(), "group_score", kEntries);
  }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    int64_t const frames = inputs[0].dims.d[0], patches = inputs[0].dims.d[1], width = inputs[0].dims.d[2];
    int64_t const groups = groups_of(patches, columns(), pool());
    if (groups == 0) {
      return refuse("hidden has %lld patches a frame, wanted whole rows of %d patches in whole groups of %d x %d",
                    static_cast<long long>(patches), columns(), pool(), pool());
    }
    int64_t const numbers = width * pool() * pool();
    auto const& previous = inputs[1].dims.d;
    if (previous[0] != groups || previous[1] != numbers) {
      return refuse("previous is [%lld, %lld], wanted [%lld, %lld]: a group's patches of the frame before",
                    static_cast<long long>(previous[0]), static_cast<long long>(previous[1]),
                    static_cast<long long>(groups), static_cast<long long>(numbers));
    }
    if (frames < 1 || frames > INT_MAX / groups || numbers > INT_MAX) {
      return refuse(
          "%lld frames of %lld groups of %lld numbers, wanted at least one frame and fewer than 2^31 of the others",
          static_cast<long long>(frames), static_cast<long long>(groups), static_cast<long long>(numbers));
    }
    type_ = inputs[0].type;
    blocks_ = static_cast<unsigned>(frames * groups);
    groups_ = static_cast<int>(groups);
    width_ = static_cast<int>(width);
    return true;
  }

  int launch(void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) const noexcept override {
    bool const packed = width_ * bytes_of(type_) % 16 == 0 && are_aligned(inputs[0]);
    return kernels_.of(type_, packed)
        .launch(Grid{blocks_}, kThreads, stream, inputs[0], inputs[1], outputs[0], outputs[1], groups_,
                columns() / pool(), pool(), width_);
  }

 private:
  int pool() const noexcept { return attribute(0); }
  int columns() const noexcept { return attribute(1); }

  Variants kernels_;
  DataType type_{};
  unsigned blocks_ = 0;
  int groups_ = 0, width_ = 0;
};

}  // namespace

STTS_CREATOR(group_score_creator, GroupScore)

}  // namespace stts
