// SttsVisionPrefixAttention: the contract is in README.md, the kernels in kernel.py.

#include "plugin.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "attention_plugin.h"

namespace stts {
namespace {

using nvinfer1::DataType;

constexpr char kImage[] = "vision_prefix_attention";
constexpr int64_t kFewRows = 64;     // fill no GPU unless keys are attended in parts, side by side
constexpr int64_t kLeastSpan = 256;  // keys that are worth a program
// As variants.py has them.
constexpr int64_t kMostParts = 32;
constexpr int64_t kKeys = 64;       // a part ends with a tile of keys
constexpr int64_t kPartsTile = 16;  // rows of a program that attends a part

// Into how many parts keys are cut, and how many keys a part has, the last one fewer.
struct Parts {
  int64_t count, span;
};

// The most parts that so many rows over so many keys are attended in; grows with the keys.
int64_t most_parts(int64_t keys, int64_t rows) noexcept {
  if (rows > kFewRows) return 1;
  int64_t const tiles = std::max((rows + kPartsTile - 1) / kPartsTile, int64_t{1});
  return std::max(std::min(keys / kLeastSpan, kMostParts / tiles), int64_t{1});
}

Parts parts_of(int64_t keys, int64_t rows) noexcept {
  int64_t const most = most_parts(keys, rows);
  int64_t const span = ((keys + most - 1) / most + kKeys - 1) / kKeys * kKeys;
  return {span == 0 ? 1 : (keys + span - 1) / span, span};
}

class VisionPrefixAttention final : public Plugin {
 public:
  explicit VisionPrefixAttention(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    constexpr uint32_t kInt64 = only(DataType::kINT64);
    static Contract const contract{"SttsVisionPrefixAttention",
                                   {{"query", 4, kHalves},
                                    {"key", 4, 0, 0},
                                    {"value", 4, 0, 0},
                                    {"positions", 1, kInt64},
                                    {"key_positions", 1, kInt64},
                                    {"vision_flags", 1, only(DataType::kBOOL)},
                                    {"rows", 1, kInt64},
                                    {"key_rows", 1, kInt64}},
                                   {{"output", 4, 0, 0}},
                                   {}};
    return contract;
  }

  Plugin* copy() const override { return new VisionPrefixAttention(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder&) const noexcept override {
    outputs[0] = inputs[0];
    return true;
  }

  // Room for what parts of the keys give, in float32, and their sums. More queries than `kFewRows` need none, so the
  // largest shapes do not need the most: it is what that many rows need, or all there are.
  size_t workspace(nvinfer1::DynamicPluginTensorDesc const* inputs) const noexcept override {
    nvinfer1::Dims const &query = inputs[0].max, &key = inputs[1].max;
    int64_t const sharing = std::max(query.d[1] / std::max(key.d[1], int64_t{1}), int64_t{1});
    int64_t most = 0;
    for (int64_t fresh = 1; fresh <= std::min(query.d[2], kFewRows / sharing); ++fresh) {
      int64_t const parts = most_parts(key.d[2], fresh * sharing);
      if (parts > 1) most = std::max(most, parts * query.d[1] * fresh * (query.d[3] + 1));
    }
    return static_cast<size_t>(most) * sizeof(float);
  }

  // Which kernels are wanted is known with type and shapes. Any tells whether there are kernels for this GPU.
  bool attach() noexcept override { return attached_ = load(DataType::kHALF, 64, false); }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    nvinfer1::Dims const &query = inputs[0].dims, &key = inputs[1].dims, &value = inputs[2].dims;
    int64_t const heads = query.d[1], fresh = query.d[2], width = query.d[3], kv_heads = key.d[1], keys = key.d[2];
    if (query.d[0] != 1 || key.d[0] != 1 || key.d[3] != width || !std::equal(key.d, key.d + 4, value.d)) {
      return refuse("query is %s, key %s and value %s, wanted [1, H, S, d] and twice [1, Hkv, P + S, d]",
                    shape_text(query).c_str(), shape_text(key).c_str(), shape_text(value).c_str());
    }
    if (width != 24 && width != 64 && width != 128) {
      return refuse("heads are %lld wide, there are kernels for 24, 64 and 128", wide(width));
    }
    if (kv_heads < 1 || heads % kv_heads != 0) {
      return refuse("%lld heads cannot share %lld of keys evenly", wide(heads), wide(kv_heads));
    }
    if (keys < fresh) {
      return refuse("key has %lld rows for %lld new tokens: the cache's slots and the new tokens' own keys are wanted",
                    wide(keys), wide(fresh));
    }
    for (int i = 3; i < 8; ++i) {
      int64_t const wanted = i == 3 || i == 6 ? fresh : keys;
      if (inputs[i].dims.d[0] != wanted) {
        return refuse("%s has %lld elements, wanted %lld: one %s", contract().inputs[i].name, wide(inputs[i].dims.d[0]),
                      wide(wanted), wanted == fresh ? "a new token" : "a slot of the cache and a new token");
      }
    }
    if (std::max(heads * fresh, kv_heads * keys) * width > INT_MAX || kv_heads > UINT16_MAX) {
      return refuse("%lld heads of %lld over %lld keys are more than a launch takes", wide(heads), wide(width),
                    wide(keys));
    }
    kv_heads_ = static_cast<int>(kv_heads);
    sharing_ = static_cast<int>(heads / kv_heads);
    fresh_ = static_cast<int>(fresh);
    past_ = static_cast<int>(keys - fresh);
    width_ = static_cast<int>(width);
    parts_ = parts_of(keys, fresh * sharing_);
    return !attached_ || load(inputs[0].type, width_, parts_.count > 1);
  }

  int launch(void const* const* inputs, void* const* outputs, void* workspace,
             cudaStream_t stream) const noexcept override {
    if (fresh_ == 0) return 0;
    bool const is_split = parts_.count > 1;
    if (char const* tensor = misaligned({{"query", inputs[0]},
                                         {"key", inputs[1]},
                                         {"value", inputs[2]},
                                         {"output", outputs[0]},
                                         {"workspace", is_split ? workspace : nullptr}})) {
      refuse(kMisaligned, tensor);
      return 1;
    }
    int const queries = kv_heads_ * sharing_ * fresh_;
    void* const mixed = is_split ? workspace : outputs[0];
    float* const log_sums = is_split ? static_cast<float*>(workspace) + parts_.count * queries * width_ : nullptr;
    auto const tile = static_cast<int>(attention_.tile());
    Grid const grid{static_cast<unsigned>((fresh_ * sharing_ + tile - 1) / tile), static_cast<unsigned>(kv_heads_),
                    static_cast<unsigned>(parts_.count)};
    int const code = attention_.launch(grid, stream, inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5],
                                       inputs[6], inputs[7], mixed, log_sums, fresh_, past_, sharing_,
                                       static_cast<int>(parts_.span), logit_scale(width_));
    if (code != 0 || !is_split) return code;
    return join_.launch(Grid{static_cast<unsigned>(queries)}, stream, mixed, log_sums, outputs[0], queries,
                        static_cast<int>(parts_.count));
  }

 private:
  bool load(DataType type, int width, bool is_split) noexcept {
    char const* const kernel = is_split ? "vision_prefix_attention_parts" : "vision_prefix_attention";
    return attention_.load(name(), kImage, entry_of(kernel, type, width).c_str()) &&
           (!is_split || join_.load(name(), kImage, entry_of("join_parts", type, width).c_str()));
  }

  TritonKernel attention_, join_;
  bool attached_ = false;
  int kv_heads_ = 0, sharing_ = 0, fresh_ = 0, past_ = 0, width_ = 0;
  Parts parts_{1, 0};
};

}  // namespace

STTS_CREATOR(vision_prefix_attention_creator, VisionPrefixAttention)

}  // namespace stts
