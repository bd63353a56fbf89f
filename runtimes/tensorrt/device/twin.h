// The CPU's side of block.cuh: blocks run one after another, and within a phase threads one after another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define STTS_DEVICE inline
#define STTS_NOT_UNROLLED
#define STTS_KERNEL(most_threads) static

namespace stts {

// How a kernel is launched. With a `seed` threads and blocks run in an order drawn anew for each phase, 0 leaves them
// in theirs.
struct Launch {
  unsigned grid = 1;
  unsigned threads = 1;
  unsigned seed = 0;
};

// What the running block knows; one a CPU thread.
struct BlockState {
  int index = 0, blocks = 1;
  std::vector<int> order;  // the threads, as the next phase runs them
  std::mt19937* random = nullptr;
  std::map<void const*, std::unique_ptr<unsigned char[]>> shared;

  static BlockState& current() {
    static thread_local BlockState state;
    return state;
  }
};

class Block {
 public:
  int index() const { return state_.index; }
  int threads() const { return static_cast<int>(state_.order.size()); }
  int blocks() const { return state_.blocks; }

  template <class Body>
  void phase(Body body) const {
    if (state_.random != nullptr) std::shuffle(state_.order.begin(), state_.order.end(), *state_.random);
    for (int const thread : state_.order) body(thread);
  }

  // On the heap and of its exact size, so that a sanitizer sees who reaches beyond it; full of what no kernel writes.
  template <class Memory>
  Memory& shared() const {
    static char const key = 0;
    auto& memory = state_.shared[&key];
    if (memory == nullptr) {
      memory.reset(new unsigned char[sizeof(Memory)]);
      std::memset(memory.get(), 0xa5, sizeof(Memory));
    }
    return *reinterpret_cast<Memory*>(memory.get());
  }

 private:
  BlockState& state_ = BlockState::current();
};

template <class Number>
void add(Number& sum, Number value) {
  sum += value;
}

inline int set_bits(unsigned bits) { return __builtin_popcount(bits); }

// Runs every block of a kernel.
template <class... Parameters, class... Arguments>
void run_blocks(Launch const& launch, void (*kernel)(Parameters...), Arguments... arguments) {
  std::mt19937 random(launch.seed);
  std::vector<int> blocks(launch.grid);
  std::iota(blocks.begin(), blocks.end(), 0);
  BlockState& state = BlockState::current();
  state.random = launch.seed == 0 ? nullptr : &random;
  if (state.random != nullptr) std::shuffle(blocks.begin(), blocks.end(), random);
  state.order.resize(launch.threads);
  std::iota(state.order.begin(), state.order.end(), 0);
  state.blocks = static_cast<int>(launch.grid);
  for (int const block : blocks) {
    state.index = block;
    kernel(arguments...);
    state.shared.clear();
  }
}

}  // namespace stts
