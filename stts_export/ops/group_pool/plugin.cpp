// SttsGroupPool: the contract is in README.md, the kernels in kernel.cu.

#include "plugin.h"

#include <climits>
#include <utility>

#include "frame.h"

namespace stts {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kMostWeights = 2048;  // as in kernel.cu

class GroupPool final : public Plugin {
 public:
  explicit GroupPool(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    static Contract const contract{"SttsGroupPool",
                                   {{"query", 3, kFloats}, {"key", 3, kFloats, 0}, {"value", 3, kFloats, 0}},
                                   {{"pooled", 3, kFloats, 0}},
                                   {{"heads", 1, 1024}, {"pool", 1, 64}, {"columns", 1, 65536}}};
    return contract;
  }

  Plugin* copy() const override { return new GroupPool(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder&) const noexcept override {
    outputs[0] = inputs[0];
    return true;
  }

  bool attach() noexcept override {
    static constexpr char const* kEntries[] = STTS_VARIANTS("group_pool");
    return kernels_.load(name(), "group_pool", kEntries);
  }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    auto const& query = inputs[0].dims.d;
    auto const& key = inputs[1].dims.d;
    auto const& value = inputs[2].dims.d;
    int64_t const frames = key[0], patches = key[1], width = key[2];
    int64_t const groups = groups_of(patches, columns(), pool());
    if (groups == 0) {
      return refuse("key has %lld patches a frame, wanted whole rows of %d patches in whole groups of %d x %d",
                    static_cast<long long>(patches), columns(), pool(), pool());
    }
    for (int i = 0; i < 3; ++i) {
      if (value[i] != key[i]) {
        return refuse("key has %lld and value %lld in dimension %d, wanted equal ones", static_cast<long long>(key[i]),
                      static_cast<long long>(value[i]), i);
      }
    }
    if (query[0] != frames || query[1] != groups || query[2] != width) {
      return refuse("query is of %lld frames, %lld groups, width %lld; wanted %lld, %lld and %lld, which key says",
                    static_cast<long long>(query[0]), static_cast<long long>(query[1]),
                    static_cast<long long>(query[2]), static_cast<long long>(frames), static_cast<long long>(groups),
                    static_cast<long long>(width));
    }
    if (width % heads() != 0 || heads() * pool() * pool() > kMostWeights || frames > INT_MAX / groups ||
        width > INT_MAX) {
      return refuse(
          "width %lld in %d heads over %d patches a group, of %lld frames: wanted a multiple of heads, heads "
          "times patches of at most %d, and fewer than 2^31 groups",
          static_cast<long long>(width), heads(), pool() * pool(), static_cast<long long>(frames), kMostWeights);
    }
    type_ = inputs[0].type;
    blocks_ = static_cast<unsigned>(frames * groups);
    width_ = static_cast<int>(width);
    return true;
  }

  int launch(void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) const noexcept override {
    if (blocks_ == 0 || width_ == 0) return 0;
    bool const packed =
        width_ / heads() * bytes_of(type_) % 16 == 0 && are_aligned(inputs[0], inputs[1], inputs[2], outputs[0]);
    return kernels_.of(type_, packed)
        .launch(Grid{blocks_}, kThreads, stream, inputs[0], inputs[1], inputs[2], outputs[0], columns() / pool(),
                pool(), width_, heads());
  }

 private:
  int heads() const noexcept { return attribute(0); }
  int pool() const noexcept { return attribute(1); }
  int columns() const noexcept { return attribute(2); }

  Variants kernels_;
  nvinfer1::DataType type_{};
  unsigned blocks_ = 0;
  int width_ = 0;
};

}  // namespace

STTS_CREATOR(group_pool_creator, GroupPool)

}  // namespace stts
