// Stands in for libcudart.so: a GPU without kernels, stricter than one. Nothing that is put on a stream is done before
// the host waits for it, device addresses cannot be read by the host, every copy must stay within one allocation, and
// copies to and from the host want memory that is page-locked until they are done.
//
//   STTS_STANDIN_SM    compute capability of the GPU that it pretends to be, 87 for 8.7

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

#include "device.h"

struct CUevent_st {
  size_t place = 0;  // how much was on the stream when it was recorded
};

struct CUstream_st {
  std::deque<std::function<bool()>> waiting;
  size_t done = 0;
  bool failed = false;
};

namespace {

constexpr size_t kAlignment = 256;
// Added to what malloc gives: no address on x86-64 or aarch64, nor one whose tag is ignored.
constexpr uintptr_t kOnDevice = uintptr_t{1} << 52;

struct Memory {
  size_t bytes;
  bool on_device;
};

std::map<uintptr_t, Memory> memories;
CUstream_st* the_stream = nullptr;
int waits = 0;  // for all that was on the stream

cudaError_t drained_until(size_t place) {
  while (the_stream != nullptr && the_stream->done < place && !the_stream->failed) {
    the_stream->failed = !the_stream->waiting.front()();
    the_stream->waiting.pop_front();
    ++the_stream->done;
  }
  return the_stream != nullptr && the_stream->failed ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t drained() {
  if (the_stream == nullptr) return cudaSuccess;
  waits += the_stream->waiting.empty() ? 0 : 1;
  return drained_until(the_stream->done + the_stream->waiting.size());
}

cudaError_t allocate(void** start, size_t bytes, bool on_device) {
  uintptr_t const memory = reinterpret_cast<uintptr_t>(std::aligned_alloc(kAlignment, (bytes + 255) / 256 * 256));
  std::memset(reinterpret_cast<void*>(memory), 0xa5, bytes);  // whoever reads it before it is written is found out
  uintptr_t const address = memory + (on_device ? kOnDevice : 0);
  memories[address] = {bytes, on_device};
  *start = reinterpret_cast<void*>(address);
  return cudaSuccess;
}

cudaError_t release(void* start, bool on_device) {
  if (start == nullptr) return cudaSuccess;
  auto const found = memories.find(reinterpret_cast<uintptr_t>(start));
  if (found == memories.end() || found->second.on_device != on_device)
    standin::misused("what was not allocated is freed");
  std::free(reinterpret_cast<void*>(found->first - (on_device ? kOnDevice : 0)));
  memories.erase(found);
  return cudaSuccess;
}

char* within(void const* address, size_t bytes, bool on_device) {
  auto const wanted = reinterpret_cast<uintptr_t>(address);
  auto found = memories.upper_bound(wanted);
  if (found == memories.begin()) standin::misused("an address is used that was never allocated");
  --found;
  if (wanted + bytes > found->first + found->second.bytes)
    standin::misused("an access goes past the end of its memory");
  if (found->second.on_device != on_device)
    standin::misused("memory of the host is taken for the device's, or the reverse");
  return reinterpret_cast<char*>(wanted - (on_device ? kOnDevice : 0));
}

}  // namespace

namespace standin {

void misused(char const* what) {
  std::fprintf(stderr, "stand-in: %s\n", what);
  std::abort();
}

void put(cudaStream_t stream, std::function<bool()> work) {
  if (stream == nullptr || stream != the_stream) misused("work is put on a stream that there is not");
  stream->waiting.push_back(std::move(work));
}

char* on_host(void const* address, size_t bytes) { return within(address, bytes, true); }

}  // namespace standin

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  char const* text = std::getenv("STTS_STANDIN_SM");
  int const capability = text == nullptr ? 0 : std::atoi(text);
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (the_stream != nullptr) standin::misused("a second stream is made");
  *stream = the_stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!memories.empty()) standin::misused("memory outlives the stream");
  std::fprintf(stderr, "stand-in: the host waited %d times\n", waits);
  delete stream;
  the_stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return drained(); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->place = stream->done + stream->waiting.size();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return drained_until(event->place); }

cudaError_t cudaMalloc(void** start, size_t bytes) { return allocate(start, bytes, true); }

cudaError_t cudaFree(void* start) {  // waits for the device, as CUDA's does
  cudaError_t const code = drained();
  release(start, true);
  return code;
}

cudaError_t cudaHostAlloc(void** start, size_t bytes, unsigned) { return allocate(start, bytes, false); }

cudaError_t cudaFreeHost(void* start) {
  bool const is_idle = the_stream == nullptr || the_stream->waiting.empty() || the_stream->failed;
  if (!is_idle) standin::misused("page-locked memory goes while copies may be under way");
  return release(start, false);
}

cudaError_t cudaMemcpyAsync(void* target, void const* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  char* const to = within(target, bytes, kind != cudaMemcpyDeviceToHost);
  char const* const from = within(source, bytes, kind != cudaMemcpyHostToDevice);
  standin::put(stream, [=] {
    std::memcpy(to, from, bytes);
    return true;
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* start, int value, size_t bytes, cudaStream_t stream) {
  char* const to = within(start, bytes, true);
  standin::put(stream, [=] {
    std::memset(to, value, bytes);
    return true;
  });
  return cudaSuccess;
}

char const* cudaGetErrorName(cudaError_t code) {
  return code == cudaErrorLaunchFailure ? "cudaErrorLaunchFailure" : "another error";
}

char const* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorLaunchFailure ? "unspecified launch failure" : "";
}

}  // extern "C"
