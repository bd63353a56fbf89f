// What the library tells whoever loaded it: through TensorRT's logger where one was handed over, else on stderr.
#pragma once

#include <NvInferRuntime.h>

namespace stts {

// Used by `setLoggerFinder`. The finder stays its owner's.
void find_loggers_by(nvinfer1::ILoggerFinder* finder) noexcept;

// Says what is wrong and what to do, behind the name of the plugin or kernel it is about.
[[gnu::format(printf, 2, 3)]] void log_error(char const* about, char const* format, ...) noexcept;

}  // namespace stts
