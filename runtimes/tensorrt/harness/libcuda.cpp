// Stands in for libcuda.so.1 where no GPU is: takes the same images and launches, and runs the kernels' twins on the
// CPU.
//
//   STTS_STANDIN_SM    compute capability of the GPU that it pretends to be, 87 for 8.7; 0, that of twins, by default
//   STTS_STANDIN_SEED  order of threads and blocks, 0 for theirs
//
// It refuses what a driver would: images that are none, unknown entries, impossible launches. While
// `standin_only_launch` holds, as in `enqueue`, every other call ends the process: a CUDA graph could not hold it.
//
// Its device's memory is the host's, and a launch is done when it returns: what programs that launch kernels themselves
// ask for (tests/gpu) is at the end.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "twins.h"

namespace {

enum Code { kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidImage = 200, kInvalidHandle = 400, kNotFound = 500 };

constexpr char kTwinImage[] = "STTS CPU TWIN";
constexpr unsigned char kElf[] = {0x7f, 'E', 'L', 'F'};
constexpr int kMajor = 75, kMinor = 76;
constexpr unsigned kMostThreads = 1024, kFreeSharedBytes = 48 * 1024;
constexpr int kMostSharedBytes = 227 * 1024;  // what a block may ask for on the largest GPUs

struct Function {
  stts::Twin twin;
  unsigned shared_bytes = kFreeSharedBytes;
};

std::map<std::string, Function>& functions() {
  static std::map<std::string, Function> known;
  return known;
}

bool only_launch = false;
int loaded_modules = 0;

void count_as_other_call(char const* name) {
  if (!only_launch) return;
  std::fprintf(stderr, "stand-in libcuda: %s was called where only kernels may be launched\n", name);
  std::abort();
}

unsigned number_of(char const* variable) {
  char const* text = std::getenv(variable);
  return text == nullptr ? 0 : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

}  // namespace

namespace stts {

void register_twin(char const* entry, Twin twin) { functions()[entry] = {twin}; }

}  // namespace stts

#define CUDA_CALL extern "C" __attribute__((visibility("default")))

CUDA_CALL void standin_only_launch(int holds) { only_launch = holds != 0; }
CUDA_CALL int standin_loaded_modules() { return loaded_modules; }

CUDA_CALL int cuCtxGetCurrent(void** context) {
  count_as_other_call("cuCtxGetCurrent");
  static int the_context;
  *context = &the_context;
  return kSuccess;
}

CUDA_CALL int cuCtxGetDevice(int* device) {
  count_as_other_call("cuCtxGetDevice");
  *device = 0;
  return kSuccess;
}

CUDA_CALL int cuDeviceGetAttribute(int* value, int attribute, int) {
  count_as_other_call("cuDeviceGetAttribute");
  int const capability = static_cast<int>(number_of("STTS_STANDIN_SM"));
  if (attribute != kMajor && attribute != kMinor) return kInvalidValue;
  *value = attribute == kMajor ? capability / 10 : capability % 10;
  return kSuccess;
}

CUDA_CALL int cuModuleLoadData(void** module, void const* image) {
  count_as_other_call("cuModuleLoadData");
  bool const is_image =
      std::memcmp(image, kTwinImage, sizeof kTwinImage) == 0 || std::memcmp(image, kElf, sizeof kElf) == 0;
  if (!is_image) return kInvalidImage;
  *module = const_cast<void*>(image);
  ++loaded_modules;
  return kSuccess;
}

CUDA_CALL int cuModuleUnload(void*) {
  count_as_other_call("cuModuleUnload");
  return --loaded_modules < 0 ? kInvalidHandle : kSuccess;
}

CUDA_CALL int cuModuleGetFunction(void** function, void*, char const* name) {
  count_as_other_call("cuModuleGetFunction");
  auto const found = functions().find(name);
  if (found == functions().end()) return kNotFound;
  *function = &found->second;
  return kSuccess;
}

CUDA_CALL int cuFuncSetAttribute(void* function, int, int value) {
  count_as_other_call("cuFuncSetAttribute");
  if (value > kMostSharedBytes) return kInvalidValue;
  static_cast<Function*>(function)->shared_bytes = static_cast<unsigned>(value);
  return kSuccess;
}

CUDA_CALL int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                             unsigned block_y, unsigned block_z, unsigned shared_bytes, void*, void** parameters,
                             void** extra) {
  auto const& known = *static_cast<Function*>(function);
  bool const is_grid =
      grid_x >= 1 && grid_x <= INT32_MAX && grid_y >= 1 && grid_y <= UINT16_MAX && grid_z >= 1 && grid_z <= UINT16_MAX;
  bool const is_block = block_x >= 1 && block_x <= kMostThreads && block_y == 1 && block_z == 1;
  if (!is_grid || !is_block || shared_bytes > known.shared_bytes || extra != nullptr) return kInvalidValue;
  known.twin({grid_x, grid_y, grid_z, block_x, shared_bytes, number_of("STTS_STANDIN_SEED")}, parameters);
  return kSuccess;
}

CUDA_CALL int cuGetErrorName(int code, char const** name) {
  switch (code) {
    case kSuccess: *name = "CUDA_SUCCESS"; return kSuccess;
    case kInvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; return kSuccess;
    case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return kSuccess;
    case kInvalidImage: *name = "CUDA_ERROR_INVALID_IMAGE"; return kSuccess;
    case kInvalidHandle: *name = "CUDA_ERROR_INVALID_HANDLE"; return kSuccess;
    case kNotFound: *name = "CUDA_ERROR_NOT_FOUND"; return kSuccess;
    default: return kInvalidValue;
  }
}

CUDA_CALL int cuInit(unsigned) { return kSuccess; }

CUDA_CALL int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

CUDA_CALL int cuDeviceGet(int* device, int) {
  *device = 0;
  return kSuccess;
}

CUDA_CALL int cuDeviceGetName(char* name, int size, int) {
  std::snprintf(name, static_cast<size_t>(size), "stand-in for a GPU");
  return kSuccess;
}

CUDA_CALL int cuDevicePrimaryCtxRetain(void** context, int) { return cuCtxGetCurrent(context); }
CUDA_CALL int cuCtxSetCurrent(void*) { return kSuccess; }
CUDA_CALL int cuCtxSynchronize() { return kSuccess; }

CUDA_CALL int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  void* start = nullptr;
  if (bytes == 0) return kInvalidValue;
  if (posix_memalign(&start, 256, bytes) != 0) return kOutOfMemory;
  *address = reinterpret_cast<uint64_t>(start);
  return kSuccess;
}

CUDA_CALL int cuMemFree_v2(uint64_t address) {
  std::free(reinterpret_cast<void*>(address));
  return kSuccess;
}

CUDA_CALL int cuMemcpyHtoD_v2(uint64_t to, void const* from, size_t bytes) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return kSuccess;
}

CUDA_CALL int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
  std::memcpy(to, reinterpret_cast<void const*>(from), bytes);
  return kSuccess;
}

CUDA_CALL int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
  return cuMemcpyHtoD_v2(to, reinterpret_cast<void const*>(from), bytes);
}

CUDA_CALL int cuMemsetD8_v2(uint64_t to, unsigned char byte, size_t bytes) {
  std::memset(reinterpret_cast<void*>(to), byte, bytes);
  return kSuccess;
}

using Time = std::chrono::steady_clock::time_point;

CUDA_CALL int cuEventCreate(void** event, unsigned) {
  *event = new Time;
  return kSuccess;
}

CUDA_CALL int cuEventDestroy_v2(void* event) {
  delete static_cast<Time*>(event);
  return kSuccess;
}

CUDA_CALL int cuEventRecord(void* event, void*) {
  *static_cast<Time*>(event) = std::chrono::steady_clock::now();
  return kSuccess;
}

CUDA_CALL int cuEventSynchronize(void*) { return kSuccess; }

CUDA_CALL int cuEventElapsedTime(float* milliseconds, void* from, void* to) {
  std::chrono::duration<float, std::milli> const passed = *static_cast<Time*>(to) - *static_cast<Time*>(from);
  *milliseconds = passed.count();
  return kSuccess;
}
