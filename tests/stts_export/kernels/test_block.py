"""The language that kernels are written in, where it runs on a CPU: a missing barrier shows, as it may on a GPU."""

import shutil
import subprocess

import numpy as np
import pytest
from reference.plugin_harness import CHECKOUT


DEVICE = CHECKOUT / "runtimes/tensorrt/device"
SOURCE = """
#include "real.cuh"

#include <cstdio>
#include <cstdlib>

using namespace stts;

struct Shared { int numbers[64]; };

// Writes the numbers of its threads backwards: another thread's must be there before it is read.
STTS_KERNEL(64) void reversed(int const* in, int* out) {
  Block const block;
  Shared& shared = block.shared<Shared>();
  block.phase([&](int thread) { shared.numbers[thread] = in[thread]; });
  block.phase([&](int thread) { out[thread] = shared.numbers[block.threads() - 1 - thread]; });
}

STTS_KERNEL(64) void reversed_without_a_barrier(int const* in, int* out) {
  Block const block;
  Shared& shared = block.shared<Shared>();
  block.phase([&](int thread) {
    shared.numbers[thread] = in[thread];
    out[thread] = shared.numbers[block.threads() - 1 - thread];
  });
}

STTS_KERNEL(64) void summed(int const* in, int* out) {
  Block const block;
  Shared& shared = block.shared<Shared>();
  struct Spare { int numbers[64]; };
  Spare& spare = block.shared<Spare>();
  block.phase([&](int thread) { shared.numbers[thread] = in[thread]; });
  int const* const sums = inclusive_sums(block, shared.numbers, spare.numbers);
  block.phase([&](int thread) { out[thread] = sums[thread]; });
}

template <class Kernel>
void show(Kernel kernel, unsigned threads) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    int in[64], out[64];
    for (int i = 0; i < 64; ++i) in[i] = i + 1;
    run_blocks({1, threads, seed}, kernel, static_cast<int const*>(in), static_cast<int*>(out));
    for (unsigned i = 0; i < threads; ++i) std::printf("%d ", out[i]);
    std::puts("");
  }
}

int main(int count, char** words) {
  if (count > 1) {  // bits of floats in hex, to halves and back
    for (int i = 1; i < count; ++i) {
      float const number = float_of_bits(static_cast<unsigned>(std::strtoul(words[i], nullptr, 16)));
      Half const half = from_float<Half>(number);
      Brain const brain = from_float<Brain>(number);
      unsigned const back[] = {bits_of_float(to_float(half)), bits_of_float(to_float(brain))};
      std::printf("%u %u %u %u\\n", half.bits, back[0], brain.bits, back[1]);
    }
    return 0;
  }
  show(reversed, 64);
  show(reversed_without_a_barrier, 64);
  for (unsigned threads : {1, 7, 64}) show(summed, threads);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no g++ is installed")
    folder = tmp_path_factory.mktemp("block")
    (folder / "block.cpp").write_text(SOURCE)
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{DEVICE}", "block.cpp", "-o", "block"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "block"


def printed(program, *words):
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True)
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


def test_a_missing_barrier_gives_another_result_in_every_order(program):
    lines = printed(program)
    backwards = list(range(64, 0, -1))
    assert lines[:4] == [backwards] * 4
    assert all(line != backwards for line in lines[4:8])


def test_sums_are_right_for_any_number_of_threads_in_any_order(program):
    lines = printed(program)[8:]
    for place, threads in enumerate((1, 7, 64)):
        assert lines[4 * place : 4 * place + 4] == [np.cumsum(np.arange(1, threads + 1)).tolist()] * 4


def test_numbers_are_rounded_to_halves_as_numpy_rounds_them(program):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 600, dtype=np.uint32)
    edges = np.array([0, 1, 0x1FFF, 0x33000000, 0x33000001, 0x387FE000, 0x387FF000, 0x38800000, 0x477FEFFF, 0x477FF000])
    near = rng.integers(0x33000000, 0x47900000, 600, dtype=np.uint32)  # where halves lie
    every = np.concatenate([bits, edges.astype(np.uint32), near, near | np.uint32(1 << 31)])
    got = np.array(printed(program, *(f"{number:x}" for number in every)), dtype=np.uint32)
    numbers = every.view(np.float32)
    for kind, (narrow, wide) in (("float16", got[:, :2].T), ("bfloat16", got[:, 2:].T)):
        with np.errstate(over="ignore"):
            wanted = numbers.astype(kind)
        known = ~np.isnan(numbers)
        assert (narrow[known] == wanted.view(np.uint16)[known]).all(), kind
        assert (wide.view(np.float32)[known] == wanted.astype(np.float32)[known]).all(), kind
        assert np.isnan(wide.view(np.float32)[~known]).all(), kind
