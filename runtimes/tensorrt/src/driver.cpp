#include "driver.h"

#include <dlfcn.h>

#include "log.h"

namespace stts {
namespace {

constexpr char kLibrary[] = "libcuda.so.1";
constexpr int kMajor = 75, kMinor = 76;  // CUdevice_attribute, cuda.h

template <class Call>
bool find(void* library, char const* name, Call& call) noexcept {
  call = reinterpret_cast<Call>(dlsym(library, name));
  if (call == nullptr) {
    log_error(kLibrary, "has no %s: the driver is older than what CUDA 11 came with; update it", name);
  }
  return call != nullptr;
}

bool load(Driver& driver) noexcept {
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    log_error(kLibrary, "cannot be loaded: no NVIDIA driver is installed here, or LD_LIBRARY_PATH hides it (%s)",
              dlerror());
    return false;
  }
  return find(library, "cuCtxGetCurrent", driver.ctxGetCurrent) &&
         find(library, "cuCtxGetDevice", driver.ctxGetDevice) &&
         find(library, "cuDeviceGetAttribute", driver.deviceGetAttribute) &&
         find(library, "cuModuleLoadData", driver.moduleLoadData) &&
         find(library, "cuModuleUnload", driver.moduleUnload) &&
         find(library, "cuModuleGetFunction", driver.moduleGetFunction) &&
         find(library, "cuFuncSetAttribute", driver.funcSetAttribute) &&
         find(library, "cuLaunchKernel", driver.launchKernel) && find(library, "cuGetErrorName", driver.getErrorName);
}

}  // namespace

Driver const* Driver::get() noexcept {
  static Driver driver{};
  static bool const loaded = load(driver);
  return loaded ? &driver : nullptr;
}

char const* Driver::error_name(Code code) const noexcept {
  char const* name = nullptr;
  return getErrorName(code, &name) == 0 && name != nullptr ? name : "unknown CUDA error";
}

int Driver::compute_capability() const noexcept {
  int device = 0, major = 0, minor = 0;
  if (ctxGetDevice(&device) != 0 || deviceGetAttribute(&major, kMajor, device) != 0 ||
      deviceGetAttribute(&minor, kMinor, device) != 0) {
    return 0;
  }
  return 10 * major + minor;
}

}  // namespace stts
