"""What our code takes for granted of CUDA, asked of the played one, and of the real one where there is a GPU."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stts_runtime.errors import EngineError


def pattern(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_a_real_gpu_is_asked_too(no_gpu):
    if no_gpu:
        pytest.skip(no_gpu)


def test_memory_lies_at_multiples_of_256_and_never_overlaps(device):
    sizes = (1, 255, 256, 257, 5000)
    places = [device.room(size) for size in sizes]
    assert all(place > 0 and place % 256 == 0 for place in places)
    ordered = sorted(zip(places, sizes, strict=True))
    assert all(first + size <= second for (first, size), (second, _) in pairwise(ordered))


def test_bytes_come_back_as_they_were(device):
    wanted = pattern(70000)
    np.testing.assert_array_equal(device.read(device.given(wanted), wanted.shape), wanted)


def test_what_is_put_on_a_stream_is_done_in_order(device):
    first, second = pattern(1000), pattern(1000, 1)
    here, there = device.given(first), device.given(second)
    kept = device.room(1000)
    device.cuda.copy(kept, here, 1000, device.stream)
    device.cuda.copy(here, there, 1000, device.stream)
    device.cuda.fill_zero(there + 100, 800, device.stream)
    np.testing.assert_array_equal(device.read(kept, (1000,)), first)
    np.testing.assert_array_equal(device.read(here, (1000,)), second)
    got = device.read(there, (1000,))
    assert not got[100:900].any()
    np.testing.assert_array_equal(np.delete(got, np.s_[100:900]), np.delete(second, np.s_[100:900]))


def test_rows_are_copied_with_their_pitches_and_nothing_between_them_is_touched(device):
    source, before = pattern((5, 40)), pattern((5, 64), 1)
    here, there = device.given(source), device.given(before)
    device.cuda.copy_rows(there + 8, 64, here, 40, 24, 5, device.stream)
    wanted = before.copy()
    wanted[:, 8:32] = source[:, :24]
    np.testing.assert_array_equal(device.read(there, (5, 64)), wanted)


def test_rows_longer_than_their_pitch_are_refused(device):
    there = device.room(1000)
    with pytest.raises(EngineError, match=r"cudaMemcpy2DAsync failed: cudaErrorInvalid"):
        device.cuda.copy_rows(there, 16, there + 500, 32, 24, 2, device.stream)
    assert device.read(there, (4,)).shape == (4,)  # and the refusal is not told a second time


def test_a_copy_to_ordinary_memory_is_there_when_the_call_returns(device):
    wanted = pattern(3000)
    there, got = device.given(wanted), np.zeros(3000, np.uint8)
    device.cuda.to_host(got.ctypes.data, there, 3000, device.stream)
    np.testing.assert_array_equal(got, wanted)


def test_an_event_has_happened_until_it_is_recorded_and_then_when_the_stream_gets_there(device):
    event = device.cuda.new_event()
    device.cuda.wait_for(event)
    wanted = pattern(3000)
    there, got = device.given(wanted), device.host(3000)
    device.cuda.to_host(got.ctypes.data, there, 3000, device.stream)
    device.cuda.record(event, device.stream)
    device.cuda.wait_for(event)
    np.testing.assert_array_equal(got, wanted)
    device.cuda.end_event(event)


def test_memory_is_given_back_after_what_was_asked_before(device):
    wanted = pattern(4096)
    there, kept = device.given(wanted), device.room(4096)
    device.cuda.copy(kept, there, 4096, device.stream)
    device.held.remove(there)
    device.cuda.free(there, device.stream)
    device.cuda.fill_zero(device.room(4096), 4096, device.stream)  # which may lie where that was
    np.testing.assert_array_equal(device.read(kept, (4096,)), wanted)


def test_memory_that_is_not_there_is_refused_once(device):
    with pytest.raises(EngineError, match=r"no room for 1048576.0 GiB more: .* are free \(cudaErrorMemoryAllocation\)"):
        device.cuda.allocate(1 << 50, device.stream)
    wanted = pattern(10)
    np.testing.assert_array_equal(device.read(device.given(wanted), (10,)), wanted)


def test_what_is_recorded_is_done_when_it_is_launched_and_again_when_launched_again(device):
    first, second = pattern(100), pattern(100, 1)
    here, other, there = device.given(first), device.given(second), device.given(np.zeros(100, np.uint8))
    device.cuda.synchronize(device.stream)
    device.cuda.begin_capture(device.stream)
    device.cuda.copy(there, here, 100, device.stream)
    graph = device.cuda.end_capture(device.stream)
    assert not device.read(there, (100,)).any()
    device.cuda.launch(graph, device.stream)
    np.testing.assert_array_equal(device.read(there, (100,)), first)
    device.cuda.copy(here, other, 100, device.stream)
    device.cuda.launch(graph, device.stream)
    np.testing.assert_array_equal(device.read(there, (100,)), second)
    device.cuda.end_graph(graph)


def test_a_wait_cannot_be_recorded_and_the_stream_can_be_used_after_it(device):
    there = device.given(pattern(100))
    device.cuda.synchronize(device.stream)
    device.cuda.begin_capture(device.stream)
    with pytest.raises(EngineError, match="cudaErrorStreamCapture"):
        device.cuda.synchronize(device.stream)
    device.cuda.abandon_capture(device.stream)
    np.testing.assert_array_equal(device.read(there, (100,)), pattern(100))


def test_a_recording_can_be_abandoned_though_nothing_went_wrong(device):
    there = device.given(pattern(100))
    device.cuda.begin_capture(device.stream)
    device.cuda.fill_zero(there, 100, device.stream)
    device.cuda.abandon_capture(device.stream)
    np.testing.assert_array_equal(device.read(there, (100,)), pattern(100))


def test_a_device_has_a_compute_capability(device):
    assert 50 <= device.cuda.compute_capability < 200
