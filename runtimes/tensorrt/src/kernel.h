// Kernels inside the library: images that the build embeds by name, loaded once a CUDA context, launched with no other
// call than cuLaunchKernel, so that a CUDA graph can hold them.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

namespace stts {

// A cubin, as `image.S` embeds it. Cubins and no fatbin: which compression a driver can undo depends on its age.
struct Image {
  char const* name;  // the operator's folder, `select_groups`, or a name of its own where an operator has several
  int sm;            // compute capability that it was compiled for, 87 for 8.7
  unsigned char const* begin;
};

// Whether a GPU of compute capability `device` runs what was compiled for `compiled` (both 87 for 8.7).
bool runs_on(int compiled, int device) noexcept;

// An image in the context that was current when it was loaded; unloaded with its last user.
class Module;

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

class Kernel {
 public:
  // Finds an entry of an image in the current context. False, said by name of the plugin, where there is no driver, no
  // context, no such kernel, no kernel for this GPU, or less shared memory than wanted. Never to be called by
  // `enqueue`.
  //
  // `shared_bytes` is dynamic shared memory a block; above 48 KiB it is opted in to here.
  bool load(char const* plugin, char const* image, char const* entry, unsigned shared_bytes = 0) noexcept;

  // Launches with `parameters` as the kernel takes them; only this is called by `enqueue`. 0, or a CUresult, said by
  // name.
  template <class... Parameters>
  int launch(Grid grid, unsigned threads, cudaStream_t stream, Parameters... parameters) const noexcept {
    void* addresses[] = {&parameters..., nullptr};
    return launch_at(grid, threads, stream, addresses);
  }

  explicit operator bool() const noexcept { return function_ != nullptr; }

 private:
  int launch_at(Grid grid, unsigned threads, cudaStream_t stream, void** parameters) const noexcept;

  char const* plugin_ = "";
  char const* entry_ = "";
  void* function_ = nullptr;
  unsigned shared_bytes_ = 0;
  std::shared_ptr<Module> module_;
};

}  // namespace stts
