"""Arrays on a played GPU: copies are those of numpy, views keep memory alive, and all is given back."""

import gc

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu

from stts_runtime.engine.cuda import open_cuda
from stts_runtime.engine.device_memory import ALIGNMENT, DeviceMemory
from stts_runtime.errors import EngineError


@pytest.fixture
def gpu(monkeypatch):
    return fake_gpu(monkeypatch)


@pytest.fixture
def memory(gpu):
    memory = DeviceMemory(open_cuda())
    yield memory
    memory.close()
    assert gpu.cuda.left() == {}


def put(memory, values):
    """An array of the same values on the device, through page-locked memory."""
    array = memory.array(values.shape, values.dtype)
    memory.staging.begin(values.nbytes)
    staged = memory.staging.take(values.shape, values.dtype)
    staged[:] = values
    memory.cuda.to_device(array.pointer, staged.ctypes.data, values.nbytes, memory.stream)
    memory.staging.end()
    return array


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "itemsize"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("int64", 8), ("bool", 1)]
)
def test_arrays_know_their_shape_and_size_and_start_where_tensorrt_takes_them(memory, dtype, itemsize):
    array = memory.empty([3, 5], dtype)
    assert (array.shape, len(array), array.nbytes, array.dtype.itemsize) == ((3, 5), 3, 15 * itemsize, itemsize)
    assert array.pointer % ALIGNMENT == 0
    memory.zero(array)
    assert not memory.to_host(array).any()


def test_an_array_without_elements_has_an_address_too(memory):
    array = memory.empty((1, 2, 0, 4), "float16")
    assert array.pointer
    memory.zero(array)
    assert memory.to_host(array).shape == (1, 2, 0, 4)


def test_numpy_arrays_are_handed_back_as_they_are(memory):
    array = numbers(3)
    assert memory.to_host(array) is array


@pytest.mark.parametrize("rows", [slice(2, 5), slice(None), slice(-3, None), slice(4, 4), slice(5, 2), slice(0, 99)])
def test_a_slice_is_a_view_of_rows(memory, rows):
    values = numbers(7, 3, 2)
    view = put(memory, values)[rows]
    assert view.shape == values[rows].shape
    np.testing.assert_array_equal(memory.to_host(view), values[rows])
    memory.zero(view[:1])
    values[rows][:1] = 0
    np.testing.assert_array_equal(memory.to_host(view), values[rows])


def test_rows_that_do_not_lie_side_by_side_are_no_view(memory):
    with pytest.raises(ValueError, match="do not lie side by side"):
        memory.empty((4, 2), "float32")[::2]


def test_a_view_keeps_the_memory_and_the_last_one_gives_it_back(gpu, memory):
    values = numbers(6, 4)
    view = put(memory, values)[1:3]
    gc.collect()
    memory.empty((1,), "float32")  # what was dropped is given back by now
    np.testing.assert_array_equal(memory.to_host(view), values[1:3])
    held = gpu.cuda.left()["device"]
    del view
    for _ in range(2):
        memory.cuda.synchronize(memory.stream)
        memory.empty((1,), "float32")
    assert gpu.cuda.left()["device"] <= held


def test_memory_is_taken_back_only_after_what_was_asked_for_before(memory):
    values = numbers(50)
    array, target = put(memory, values), memory.empty((1, 50), "float32")
    memory.copy_rows(target, np.array([0]), memory_of_one_row(array))
    del array
    memory.empty((4,), "float32")
    np.testing.assert_array_equal(memory.to_host(target)[0], values)


def memory_of_one_row(array):
    """The same memory as [1, n]."""
    return type(array)((1, *array.shape), array.dtype, array._block)


@pytest.mark.parametrize(("at", "count"), [(0, 5), (3, 2), (6, 1), (0, 0), (2, 5)])
def test_tokens_are_copied_into_their_slots(gpu, memory, at, count):
    target, source = numbers(1, 3, 7, 4), numbers(1, 3, 5, 4) + 1
    there = put(memory, target)
    memory.copy_tokens(there, at, put(memory, source), count)
    target[:, :, at : at + count] = source[:, :, :count]
    np.testing.assert_array_equal(memory.to_host(there), target)


@pytest.mark.parametrize(("at", "count"), [(3, 5), (-1, 2), (0, 6)])
def test_tokens_that_do_not_fit_are_refused(memory, at, count):
    target, source = memory.empty((1, 3, 7, 4), "float32"), memory.empty((1, 3, 5, 4), "float32")
    with pytest.raises(ValueError, match="do not fit"):
        memory.copy_tokens(target, at, source, count)


@pytest.mark.parametrize("rows", [[0, 1, 2], [5, 6, 1, 8, 2], [9], [3, 2, 1], []])
def test_rows_are_copied_to_their_places_runs_in_one_copy(gpu, memory, rows):
    target, source = numbers(10, 6), numbers(len(rows), 6) + 1
    there, rows = put(memory, target), np.array(rows, np.int64)
    from_there = put(memory, source) if len(rows) else memory.empty((0, 6), "float32")
    gpu.cuda.copies.clear()
    memory.copy_rows(there, rows, from_there)
    runs = int((np.diff(rows) != 1).sum()) + 1 if len(rows) else 0
    assert [way for way, _ in gpu.cuda.copies] == ["within"] * runs
    target[rows] = source
    np.testing.assert_array_equal(memory.to_host(there), target)


@pytest.mark.parametrize("rows", [[0, 10], [-1, 0], [0, 1, 2]])
def test_rows_without_a_place_are_refused(memory, rows):
    with pytest.raises(ValueError, match="cannot be put at"):
        memory.copy_rows(memory.empty((10, 2), "float32"), np.array(rows), memory.empty((2, 2), "float32"))


def test_staging_waits_for_copies_that_are_under_way_before_it_is_written_again(memory):
    first, second = numbers(100), numbers(300) + 1
    arrays = put(memory, first), put(memory, second), put(memory, first)
    for array, values in zip(arrays, (first, second, first), strict=True):
        np.testing.assert_array_equal(memory.to_host(array), values)


def test_after_the_end_an_array_says_why_it_is_none(gpu):
    memory = DeviceMemory(open_cuda())
    array = memory.empty((4,), "float32")
    memory.close()
    memory.close()
    with pytest.raises(EngineError, match=r"used after its engines were closed.*load the bundle again"):
        memory.to_host(array)
    with pytest.raises(EngineError, match="were closed"):
        memory.empty((4,), "float32")
    del array
    assert gpu.cuda.left() == {}
