"""The host's memory: what an engine's arrays must be able to do, done by numpy."""

import numpy as np
import pytest

from stts_runtime.bundle.spec import TensorSpec, storage_dtype
from stts_runtime.engine.memory import HostMemory, new_array


@pytest.fixture
def memory():
    return HostMemory()


@pytest.mark.parametrize(
    ("dtype", "stored"), [("float32", "float32"), ("float16", "float16"), ("bfloat16", "uint16"), ("bool", "bool")]
)
def test_an_array_has_the_dtype_that_stores_its_values(memory, dtype, stored):
    array = memory.empty((2, 3), dtype)
    memory.zero(array)
    assert (array.shape, array.dtype) == ((2, 3), storage_dtype(dtype))
    assert array.dtype.name == stored
    assert not array.any()


def test_an_array_for_a_tensor_has_its_dynamic_dimension_as_wanted(memory):
    assert new_array(memory, TensorSpec("past_key_0", "bfloat16", (1, 2, "P", 8)), 5).shape == (1, 2, 5, 8)
    assert new_array(memory, TensorSpec("previous", "float32", (9, 4))).shape == (9, 4)


def test_tokens_are_put_where_they_belong_and_others_stay(memory):
    target, source = np.zeros((1, 2, 6, 3)), np.arange(24.0).reshape(1, 2, 4, 3)
    memory.copy_tokens(target, 1, source, 2)
    np.testing.assert_array_equal(target[:, :, 1:3], source[:, :, :2])
    target[:, :, 1:3] = 0
    assert not target.any()


def test_rows_are_put_where_they_belong(memory):
    target = np.zeros((4, 2))
    memory.copy_rows(target, np.array([3, 0]), np.array([[1, 2], [3, 4]]))
    assert target.tolist() == [[3, 4], [0, 0], [0, 0], [1, 2]]


def test_what_lies_on_the_host_is_looked_at_as_it_is(memory):
    array = memory.empty((2,), "float32")
    assert memory.to_host(array) is array
