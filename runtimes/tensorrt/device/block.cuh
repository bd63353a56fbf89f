// One source, two compilers: nvcc and NVRTC make a kernel of it, g++ its CPU twin.
//
// A kernel is written in phases. A phase is a function of the thread, and no thread begins the next one before all have
// ended this one: the barrier belongs to the phase. On a CPU the threads of a phase run one after another in an order
// that tests permute, so what needs a barrier that is not there gives another result there too. What threads of one
// phase share they only add to, by `add`.
//
//   STTS_KERNEL(256) void twice(float const* in, float* out, int count) {
//     stts::Block const block;
//     block.phase([&](int thread) {
//       for (int i = thread; i < count; i += block.threads()) out[i] = 2 * in[i];
//     });
//   }
//
// No standard header is included: NVRTC has none. `long long` is int64 and `unsigned` uint32 everywhere here.
#pragma once

#ifdef __CUDACC__

#define STTS_DEVICE __device__ __forceinline__
// Before a loop that is long in code and short in turns.
#define STTS_NOT_UNROLLED _Pragma("unroll 1")
#define STTS_KERNEL(most_threads) extern "C" __global__ __launch_bounds__(most_threads)

namespace stts {

class Block {
 public:
  STTS_DEVICE int index() const { return blockIdx.x; }
  STTS_DEVICE int threads() const { return blockDim.x; }
  STTS_DEVICE int blocks() const { return gridDim.x; }

  template <class Body>
  STTS_DEVICE void phase(Body body) const {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }

  // Memory that the threads of a block share; it holds nothing to begin with. Once a kernel for each type.
  template <class Memory>
  STTS_DEVICE Memory& shared() const {
    __shared__ __align__(16) unsigned char memory[sizeof(Memory)];
    return *reinterpret_cast<Memory*>(memory);
  }
};

// Adds to memory that threads of one phase add to; nothing else may touch it in that phase.
template <class Number>
STTS_DEVICE void add(Number& sum, Number value) {
  atomicAdd(&sum, value);
}

STTS_DEVICE int set_bits(unsigned bits) { return __popc(bits); }

}  // namespace stts

#else

#include "twin.h"

#endif

namespace stts {

// Turns `values`, one a thread, into their sums: afterwards a thread finds the sum of all values up to and with its
// own. `values` and `spare` are shared, of as many elements as a block has threads; where the sums lie is returned.
template <class Number>
STTS_DEVICE Number* inclusive_sums(Block const& block, Number* values, Number* spare) {
  for (int step = 1; step < block.threads(); step *= 2) {
    block.phase(
        [&](int thread) { spare[thread] = values[thread] + (thread < step ? Number(0) : values[thread - step]); });
    Number* const summed = spare;
    spare = values;
    values = summed;
  }
  return values;
}

}  // namespace stts
