// The played device that libcudart and libnvinfer share.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace standin {

// What no program may do, whatever it was given: ends the process.
[[noreturn]] void misused(char const* what);

// Puts work on the stream, which is done when the host waits for it; whether it could be done.
void put(cudaStream_t stream, std::function<bool()> work);

// Where the host finds `bytes` at a device address. Ends the process if they are not all of one allocation.
char* on_host(void const* address, size_t bytes);

}  // namespace standin
