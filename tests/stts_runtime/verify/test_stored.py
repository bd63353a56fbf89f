import ml_dtypes
import numpy as np
import pytest

from stts_runtime.verify.stored import float32_values, stored_values


def numbers():
    """Numbers of all magnitudes, ties between two bfloat16 numbers, and what is no number."""
    rng = np.random.default_rng(0)
    some = (rng.standard_normal(5000) * 10.0 ** rng.integers(-40, 38, 5000)).astype(np.float32)
    ties = (np.arange(0x3F80, 0x3FA0, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    edges = np.array([0.0, -0.0, 1.0, np.finfo(np.float32).max, -np.inf, np.inf, 1e-45], np.float32)
    return np.concatenate((some, ties, -ties, edges))


def test_bfloat16_is_rounded_as_ml_dtypes_rounds_it():
    with np.errstate(over="ignore"):
        expected = numbers().astype(ml_dtypes.bfloat16)
    bits = stored_values(numbers(), "bfloat16")
    assert bits.dtype == np.uint16
    np.testing.assert_array_equal(bits, expected.view(np.uint16))
    np.testing.assert_array_equal(float32_values(bits, "bfloat16"), expected.astype(np.float32))


def test_what_is_no_number_stays_none():
    for bits in (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001):
        value = np.array([bits], np.uint32).view(np.float32)
        assert np.isnan(float32_values(stored_values(value, "bfloat16"), "bfloat16")).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_other_dtypes_are_numpys(dtype):
    values = np.arange(6).reshape(2, 3).T
    stored = stored_values(values, dtype)
    assert stored.dtype == np.dtype(dtype)
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(float32_values(stored, dtype), values.astype(dtype).astype(np.float32))
