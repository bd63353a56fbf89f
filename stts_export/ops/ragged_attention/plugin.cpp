// SttsRaggedAttention: the contract is in README.md, the kernels in kernel.py.

#include "plugin.h"

#include <climits>
#include <utility>

#include "attention_plugin.h"

namespace stts {
namespace {

using nvinfer1::DataType;

constexpr char kName[] = "ragged_attention";  // of the image, and how entries begin

class RaggedAttention final : public Plugin {
 public:
  explicit RaggedAttention(std::vector<int32_t> attributes) : Plugin(contract(), std::move(attributes)) {}

  static Contract const& contract() {
    static Contract const contract{"SttsRaggedAttention",
                                   {{"query", 2, kHalves},
                                    {"key", 2, 0, 0},
                                    {"value", 2, 0, 0},
                                    {"cumulative_lengths", 1, only(DataType::kINT64)},
                                    {"positions", 1, only(DataType::kINT64)}},
                                   {{"output", 2, 0, 0}},
                                   {{"heads", 1, UINT16_MAX}}};
    return contract;
  }

  Plugin* copy() const override { return new RaggedAttention(attributes()); }

  bool output_shapes(nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
                     nvinfer1::IExprBuilder&) const noexcept override {
    outputs[0] = inputs[0];
    return true;
  }

  // Which kernel is wanted is known with type and width. Any tells whether there are kernels for this GPU.
  bool attach() noexcept override { return attached_ = load(DataType::kHALF, 64); }

  bool take_shapes(Descriptions inputs, Descriptions) noexcept override {
    int64_t const rows = inputs[0].dims.d[0], columns = inputs[0].dims.d[1], bounds = inputs[3].dims.d[0];
    int64_t const longest = inputs[4].dims.d[0];
    for (int i = 1; i < 3; ++i) {
      if (inputs[i].dims.d[0] != rows || inputs[i].dims.d[1] != columns) {
        return refuse("%s is %s, wanted the shape of query, %s", contract().inputs[i].name,
                      shape_text(inputs[i].dims).c_str(), shape_text(inputs[0].dims).c_str());
      }
    }
    if (columns % heads() != 0 || !serves_width(columns / heads())) {
      return refuse(
          "query is %lld wide, which does not make %d heads of 16, 64, 72 or 128: there are kernels for these",
          wide(columns), heads());
    }
    if (bounds < 1) return refuse("cumulative_lengths is empty, wanted one number more than frames");
    frames_ = bounds - 1;
    // No frame is longer than `longest`: so many frames hold that many rows at most.
    if (rows > frames_ * longest) {
      return refuse(
          "cumulative_lengths and positions are of %lld frames of %lld rows at most, query has %lld rows: the "
          "lengths do not add up",
          wide(frames_), wide(longest), wide(rows));
    }
    if (rows * columns > INT_MAX) {
      return refuse("query has %lld elements, a launch takes %d: encode fewer frames at once", wide(rows * columns),
                    INT_MAX);
    }
    rows_ = static_cast<int>(rows);
    width_ = static_cast<int>(columns / heads());
    return !attached_ || load(inputs[0].type, width_);
  }

  int launch(void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) const noexcept override {
    if (rows_ == 0) return 0;
    if (char const* tensor =
            misaligned({{"query", inputs[0]}, {"key", inputs[1]}, {"value", inputs[2]}, {"output", outputs[0]}})) {
      refuse(kMisaligned, tensor);
      return 1;
    }
    // A frame that ends within a tile leaves the rest of it, so there is one tile a frame more than the rows fill.
    Grid const grid{static_cast<unsigned>(rows_ / kernel_.tile() + frames_), static_cast<unsigned>(heads())};
    return kernel_.launch(grid, stream, inputs[0], inputs[1], inputs[2], inputs[3], outputs[0], rows_,
                          static_cast<int>(frames_), heads(), logit_scale(width_));
  }

 private:
  static bool serves_width(int64_t width) noexcept { return width == 16 || width == 64 || width == 72 || width == 128; }
  int heads() const noexcept { return attribute(0); }
  bool load(DataType type, int width) noexcept {
    return kernel_.load(name(), kName, entry_of(kName, type, width).c_str());
  }

  TritonKernel kernel_;
  bool attached_ = false;
  int64_t frames_ = 0;
  int rows_ = 0, width_ = 0;
};

}  // namespace

STTS_CREATOR(ragged_attention_creator, RaggedAttention)

}  // namespace stts
