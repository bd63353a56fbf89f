// The CUDA driver, found in libcuda.so.1 when it is first needed: the library links to no part of CUDA, so it also
// loads where engines are only built.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace stts {

struct Driver {
  using Code = int;  // CUresult; 0 is success
  using Handle = void*;

  Code (*ctxGetCurrent)(Handle* context);
  Code (*ctxGetDevice)(int* device);
  Code (*deviceGetAttribute)(int* value, int attribute, int device);
  Code (*moduleLoadData)(Handle* module, void const* image);
  Code (*moduleUnload)(Handle module);
  Code (*moduleGetFunction)(Handle* function, Handle module, char const* name);
  Code (*funcSetAttribute)(Handle function, int attribute, int value);
  Code (*launchKernel)(Handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared_bytes, cudaStream_t stream,
                       void** parameters, void** extra);
  Code (*getErrorName)(Code code, char const** name);

  // The one driver of this process; null, said once by name, where libcuda.so.1 or one of the calls is missing.
  static Driver const* get() noexcept;

  // `CUDA_ERROR_INVALID_VALUE (1)` goes into messages as name and number.
  char const* error_name(Code code) const noexcept;

  // Compute capability of the device of the current context, 87 for 8.7; 0 where there is no context.
  int compute_capability() const noexcept;
};

}  // namespace stts
