// SttsPackTokens: the contract is in README.md, the kernels in kernel.cu.

#include "plugin.h"

#include <climits>
#include <utility>

#include "frame.h"

namespace stts {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;

constexpr unsigned kThreads = 256;

class PackTokens final : public Plugin {
 public:
  explicit PackTokens(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    static Contract const contract{"SttsPackTokens",
                                   {{"hidden", 3, kFloats}, {"order", 1, only(DataType::kINT64)}},
                                   {{"packed", 2, kFloats, 0}},
                                   {{"pool", 1, 64}, {"columns", 1, 65536}}};
    return contract;
  }

  Plugin* copy() const override { return new PackTokens(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder& builder) const noexcept override {
    auto const* patches = builder.constant(int64_t{pool()} * pool());
    outputs[0].d[0] = builder.operation(DimensionOperation::kPROD, *inputs[1].d[0], *patches);
    outputs[0].d[1] = inputs[0].d[2];
    return true;
  }

  bool attach() noexcept override {
    return kernels_[0].load(name(), "pack_tokens", "pack_tokens_16") &&
           kernels_[1].load(name(), "pack_tokens", "pack_tokens_8") &&
           kernels_[2].load(name(), "pack_tokens", "pack_tokens_4") &&
           kernels_[3].load(name(), "pack_tokens", "pack_tokens_2");
  }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    int64_t const frames = inputs[0].dims.d[0], patches = inputs[0].dims.d[1], width = inputs[0].dims.d[2];
    int64_t const kept = inputs[1].dims.d[0];
    int64_t const groups = groups_of(patches, columns(), pool());
    if (groups == 0) {
      return refuse("hidden has %lld patches a frame, wanted whole rows of %d patches in whole groups of %d x %d",
                    static_cast<long long>(patches), columns(), pool(), pool());
    }
    int64_t const bytes = width * bytes_of(inputs[0].type);
    if (kept > INT_MAX || pool() * pool() * bytes > INT_MAX) {
      return refuse("%lld groups of %lld bytes a patch are more than one launch packs", static_cast<long long>(kept),
                    static_cast<long long>(bytes));
    }
    groups_ = frames * groups;
    kept_ = static_cast<int>(kept);
    bytes_ = static_cast<int>(bytes);
    return true;
  }

  int launch(void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) const noexcept override {
    if (kept_ == 0 || bytes_ == 0) return 0;
    // The widest word that divides a row and both addresses: TensorRT aligns to 256 bytes, a caller's slice may not.
    auto const places = reinterpret_cast<uintptr_t>(inputs[0]) | reinterpret_cast<uintptr_t>(outputs[0]) | bytes_;
    int word = 16, place = 0;
    for (; places % word != 0; word /= 2) ++place;
    return kernels_[place].launch(Grid{static_cast<unsigned>(kept_)}, kThreads, stream, inputs[0], inputs[1],
                                  outputs[0], static_cast<long long>(groups_), columns() / pool(), pool(),
                                  bytes_ / word);
  }

 private:
  int pool() const noexcept { return attribute(0); }
  int columns() const noexcept { return attribute(1); }

  Kernel kernels_[4];
  int64_t groups_ = 0;
  int kept_ = 0, bytes_ = 0;
};

}  // namespace

STTS_CREATOR(pack_tokens_creator, PackTokens)

}  // namespace stts
