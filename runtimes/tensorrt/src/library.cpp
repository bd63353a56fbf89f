// The two calls by which TensorRT, trtexec, polygraphy and applications take the plugins of libstts_trt.so.

#include <NvInferRuntime.h>

#include <vector>

#include "log.h"

namespace stts {

// One a plugin; its operator's folder defines it.
nvinfer1::IPluginCreatorInterface* group_pool_creator();
nvinfer1::IPluginCreatorInterface* group_score_creator();
nvinfer1::IPluginCreatorInterface* pack_tokens_creator();
nvinfer1::IPluginCreatorInterface* ragged_attention_creator();
nvinfer1::IPluginCreatorInterface* select_groups_creator();
nvinfer1::IPluginCreatorInterface* vision_prefix_attention_creator();

}  // namespace stts

#define STTS_EXPORTED extern "C" [[gnu::visibility("default")]]

STTS_EXPORTED nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static std::vector<nvinfer1::IPluginCreatorInterface*> const creators{
      stts::group_pool_creator(),       stts::group_score_creator(),   stts::pack_tokens_creator(),
      stts::ragged_attention_creator(), stts::select_groups_creator(), stts::vision_prefix_attention_creator(),
  };
  count = static_cast<int32_t>(creators.size());
  return creators.data();
}

STTS_EXPORTED void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { stts::find_loggers_by(finder); }
