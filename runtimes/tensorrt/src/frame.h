// What the plugins that read frames share: how patches lie in one, and how wide they may be read.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

#include "kernel.h"

namespace stts {

// Groups of a frame of `patches` patches, `columns` in a row and `pool` x `pool` in a group; 0 where they make none.
inline int64_t groups_of(int64_t patches, int columns, int pool) noexcept {
  bool const fits = columns % pool == 0 && patches % (int64_t{columns} * pool) == 0;
  return fits ? patches / (int64_t{pool} * pool) : 0;
}

inline int bytes_of(nvinfer1::DataType type) noexcept { return type == nvinfer1::DataType::kFLOAT ? 4 : 2; }

// Whether all these addresses are multiples of 16.
template <class... Pointers>
bool are_aligned(Pointers... pointers) noexcept {
  return ((reinterpret_cast<uintptr_t>(pointers) | ...) % 16) == 0;
}

// The variants of a kernel for each precision, `ENTRY_float16` in packs of 16 bytes and `ENTRY_float16_alone` number by
// number. All are loaded, since the precision is known only when shapes are.
class Variants {
 public:
  bool load(char const* plugin, char const* image, char const* const (&entries)[6]) noexcept {
    for (int i = 0; i < 6; ++i) {
      if (!kernels_[i].load(plugin, image, entries[i])) return false;
    }
    return true;
  }

  Kernel const& of(nvinfer1::DataType type, bool packed) const noexcept {
    int const precision = type == nvinfer1::DataType::kFLOAT ? 0 : type == nvinfer1::DataType::kHALF ? 1 : 2;
    return kernels_[precision + (packed ? 0 : 3)];
  }

 private:
  Kernel kernels_[6];
};

// The entries of `Variants`, in its order.
#define STTS_VARIANTS(entry)                                          \
  {entry "_float32",       entry "_float16",       entry "_bfloat16", \
   entry "_float32_alone", entry "_float16_alone", entry "_bfloat16_alone"}

}  // namespace stts
