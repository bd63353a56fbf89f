#include "log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace stts {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void find_loggers_by(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder = finder; }

void log_error(char const* about, char const* format, ...) noexcept {
  char message[1024];
  int const start = std::snprintf(message, sizeof message, "%s: ", about);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message + start, sizeof message - start, format, arguments);
  va_end(arguments);
  auto* finder = logger_finder.load();
  if (auto* logger = finder ? finder->findLogger() : nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message);
  } else {
    std::fprintf(stderr, "%s\n", message);
  }
}

}  // namespace stts
