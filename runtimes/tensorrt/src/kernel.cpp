#include "kernel.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "driver.h"
#include "log.h"

// The build names the cubins that lie beside this file: X(select_groups, 80) X(select_groups, 86) ...
#ifndef STTS_IMAGES
#error "STTS_IMAGES comes from the Makefile"
#endif

#define X(name, sm) extern "C" unsigned char const stts_image_##name##_##sm[];
STTS_IMAGES
#undef X

namespace stts {
namespace {

constexpr Image kImages[] = {
#define X(name, sm) {#name, sm, stts_image_##name##_##sm},
    STTS_IMAGES
#undef X
    {nullptr, 0, nullptr}};

constexpr unsigned kFreeSharedBytes = 48 * 1024;  // what a kernel gets without asking
constexpr int kMaxDynamicSharedBytes = 8;         // CUfunction_attribute, cuda.h

// The image of that name which was compiled for the device, or for the nearest that it is compatible with; null, said
// by name of the plugin, where there is none.
Image const* image_for(char const* plugin, char const* name, int device) noexcept {
  Image const* nearest = nullptr;
  char sms[128] = "";
  for (Image const* image = kImages; image->name != nullptr; ++image) {
    if (std::strcmp(image->name, name) != 0) continue;
    size_t const length = std::strlen(sms);
    std::snprintf(sms + length, sizeof sms - length, "%s%d", length ? ", " : "", image->sm);
    if (runs_on(image->sm, device) && (nearest == nullptr || image->sm > nearest->sm)) nearest = image;
  }
  if (sms[0] == 0) {
    log_error(plugin, "the library was built without the kernels of %s: build it with `make plugins`", name);
  } else if (nearest == nullptr) {
    log_error(plugin,
              "this GPU is SM %d, and the library has kernels for SM %s: build it with `make plugins SMS=%d`, or "
              "the bundle with --ops portable",
              device, sms, device);
  }
  return nearest;
}

}  // namespace

class Module {
 public:
  Module(Driver const& driver, void* handle) : driver_(driver), handle_(handle) {}
  Module(Module const&) = delete;
  Module& operator=(Module const&) = delete;
  ~Module() { driver_.moduleUnload(handle_); }
  void* handle() const noexcept { return handle_; }

 private:
  Driver const& driver_;
  void* handle_;
};

namespace {

// All layers of an engine share one copy of an image's code.
std::shared_ptr<Module> module_of(Driver const& driver, Image const& image, void* context, char const* plugin) {
  static std::mutex mutex;
  static std::map<std::pair<void*, Image const*>, std::weak_ptr<Module>> loaded;
  std::lock_guard<std::mutex> lock(mutex);
  auto& known = loaded[{context, &image}];
  if (auto module = known.lock()) return module;
  void* handle = nullptr;
  if (int const code = driver.moduleLoadData(&handle, image.begin)) {
    log_error(plugin,
              "its kernels for SM %d cannot be loaded on a GPU of SM %d: %s (%d). A driver older than CUDA 12.6, for "
              "SM 100 and later 13.0, does not take them",
              image.sm, driver.compute_capability(), driver.error_name(code), code);
    return nullptr;
  }
  auto module = std::make_shared<Module>(driver, handle);
  known = module;
  return module;
}

}  // namespace

// NVIDIA promises it from one minor revision to later ones of the same major one, and not between Jetson and others.
bool runs_on(int compiled, int device) noexcept {
  bool const jetson =
      device == 72 || device == 87 || device == 101 || device == 110 || compiled == 87 || compiled == 110;
  return compiled == device || (!jetson && compiled / 10 == device / 10 && compiled < device);
}

bool Kernel::load(char const* plugin, char const* image_name, char const* entry, unsigned shared_bytes) noexcept {
  Driver const* driver = Driver::get();
  void* context = nullptr;
  if (driver == nullptr) {
    log_error(plugin, "cannot run without the CUDA driver");
    return false;
  }
  if (int const code = driver->ctxGetCurrent(&context); code != 0 || context == nullptr) {
    log_error(plugin, "no CUDA context is current in this thread: %s (%d)", driver->error_name(code), code);
    return false;
  }
  int const device = driver->compute_capability();
  Image const* image = image_for(plugin, image_name, device);
  if (image == nullptr) return false;
  auto module = module_of(*driver, *image, context, plugin);
  if (module == nullptr) return false;
  void* function = nullptr;
  if (int const code = driver->moduleGetFunction(&function, module->handle(), entry)) {
    log_error(plugin, "the kernels of %s have no %s: %s (%d); library and kernels were not built together", image_name,
              entry, driver->error_name(code), code);
    return false;
  }
  if (shared_bytes > kFreeSharedBytes) {
    if (int const code = driver->funcSetAttribute(function, kMaxDynamicSharedBytes, static_cast<int>(shared_bytes))) {
      log_error(plugin, "%s wants %u bytes of shared memory a block, which this GPU of SM %d does not give: %s (%d)",
                entry, shared_bytes, device, driver->error_name(code), code);
      return false;
    }
  }
  plugin_ = plugin;
  entry_ = entry;
  function_ = function;
  shared_bytes_ = shared_bytes;
  module_ = std::move(module);
  return true;
}

int Kernel::launch_at(Grid grid, unsigned threads, cudaStream_t stream, void** parameters) const noexcept {
  if (function_ == nullptr) {
    log_error(plugin_, "was enqueued before it was attached to a context");
    return 1;
  }
  Driver const& driver = *Driver::get();
  int const code =
      driver.launchKernel(function_, grid.x, grid.y, grid.z, threads, 1, 1, shared_bytes_, stream, parameters, nullptr);
  if (code != 0) {
    log_error(plugin_, "%s was not launched on a grid of %u x %u x %u blocks of %u threads: %s (%d)", entry_, grid.x,
              grid.y, grid.z, threads, driver.error_name(code), code);
  }
  return code;
}

}  // namespace stts
