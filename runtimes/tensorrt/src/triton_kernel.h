// Kernels that Triton compiled: what a launch needs beside the entry differs from GPU to GPU, and is written down when
// they are compiled, in triton_launches.inc beside their images.
#pragma once

#include "kernel.h"

namespace stts {

// What was compiled for a GPU of compute capability `sm`, 0 for the stand-in's twins.
struct CompiledEntry {
  char const* entry;
  int sm;
  unsigned tile;  // rows that a program takes
  unsigned threads;
  unsigned shared_bytes;
};

class TritonKernel {
 public:
  // Finds what was compiled of an entry for the GPU of the current context; otherwise as Kernel::load.
  bool load(char const* plugin, char const* image, char const* entry) noexcept;

  // Rows that a program takes.
  unsigned tile() const noexcept { return compiled_->tile; }

  // As Kernel::launch. Triton appends two pointers to scratch memory, of which these kernels use none.
  template <class... Parameters>
  int launch(Grid grid, cudaStream_t stream, Parameters... parameters) const noexcept {
    void* const scratch = nullptr;
    return kernel_.launch(grid, compiled_ == nullptr ? 0 : compiled_->threads, stream, parameters..., scratch, scratch);
  }

 private:
  Kernel kernel_;
  CompiledEntry const* compiled_ = nullptr;
};

}  // namespace stts
