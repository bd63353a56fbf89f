// Kernels that the stand-in for libcuda knows: entries by name, each with its twin on the CPU. An operator's twin.cpp
// registers them.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "twin.h"

namespace stts {

// As cuLaunchKernel is told. `seed` permutes what a GPU runs in no order; 0 leaves it in one.
struct CudaLaunch {
  unsigned grid_x, grid_y, grid_z;
  unsigned threads;
  unsigned shared_bytes;
  unsigned seed;
};

// `parameters` point to the kernel's parameters, in order.
using Twin = void (*)(CudaLaunch const& launch, void** parameters);

void register_twin(char const* entry, Twin twin);

// The twin of a kernel written with block.cuh.
template <auto kernel>
struct BlockTwin;

template <class... Parameters, void (*kernel)(Parameters...)>
struct BlockTwin<kernel> {
  static void run(CudaLaunch const& launch, void** parameters) {
    run_at(launch, parameters, std::index_sequence_for<Parameters...>());
  }

 private:
  template <size_t... place>
  static void run_at(CudaLaunch const& launch, void** parameters, std::index_sequence<place...>) {
    run_blocks({launch.grid_x, launch.threads, launch.seed}, kernel, *static_cast<Parameters*>(parameters[place])...);
  }
};

#define STTS_TWIN_OF(entry, twin) static bool const entry##_registered = (stts::register_twin(#entry, twin), true)
#define STTS_TWIN(entry) STTS_TWIN_OF(entry, stts::BlockTwin<entry>::run)

}  // namespace stts
