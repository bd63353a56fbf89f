#include "triton_kernel.h"

#include <cstring>

#include "driver.h"
#include "log.h"

namespace stts {
namespace {

constexpr CompiledEntry kCompiled[] = {
#define COMPILED(entry, sm, tile, threads, shared_bytes) {#entry, sm, tile, threads, shared_bytes},
#if __has_include("triton_launches.inc")
#include "triton_launches.inc"
#endif
#undef COMPILED
    {nullptr, 0, 0, 0, 0}};

// From 9.0 on Triton compiles for the one GPU that it is told (sm_90a), which no other runs.
bool serves(int compiled, int device) noexcept {
  return compiled >= 90 ? compiled == device : runs_on(compiled, device);
}

// What suits the device best: the nearest below.
CompiledEntry const* find_compiled(char const* entry, int device) noexcept {
  CompiledEntry const* best = nullptr;
  for (CompiledEntry const* one = kCompiled; one->entry != nullptr; ++one) {
    bool const fits = std::strcmp(one->entry, entry) == 0 && serves(one->sm, device);
    if (fits && (best == nullptr || best->sm < one->sm)) best = one;
  }
  return best;
}

}  // namespace

bool TritonKernel::load(char const* plugin, char const* image, char const* entry) noexcept {
  Driver const* driver = Driver::get();
  int const device = driver == nullptr ? 0 : driver->compute_capability();
  compiled_ = find_compiled(entry, device);
  if (!kernel_.load(plugin, image, entry, compiled_ == nullptr ? 0 : compiled_->shared_bytes)) return false;
  if (compiled_ != nullptr) return true;
  log_error(plugin,
            "the library has no %s for this GPU, SM %d; what Triton compiles for SM 90 and later runs on no other: "
            "build it with `make plugins SMS=%d`, or the bundle with --ops portable",
            entry, device, device);
  return false;
}

}  // namespace stts
