import numpy as np
import pytest

from stts_runtime.errors import EngineError
from stts_runtime.kv_cache import KvCache


def present(length, layers=2, kv_heads=3, head_dim=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.random((1, kv_heads, length, head_dim)).astype(dtype) for _ in range(2 * layers)]


@pytest.fixture
def cache():
    return KvCache(layers=2, kv_heads=3, head_dim=4)


def test_a_new_cache_is_empty_and_can_be_fed(cache):
    assert cache.length == 0
    assert cache.nbytes == 0
    assert [array.shape for array in cache.past()] == [(1, 3, 0, 4)] * 4


def test_what_the_decoder_returns_is_held_without_a_copy(cache):
    arrays = present(5)
    cache.replace(arrays)
    assert cache.length == 5
    assert cache.nbytes == 4 * 3 * 5 * 4 * 4
    assert all(held is given for held, given in zip(cache.past(), arrays, strict=True))


def test_truncating_keeps_the_first_tokens_and_frees_the_rest(cache):
    arrays = present(5)
    cache.replace(arrays)
    cache.truncate(2)
    assert cache.length == 2
    assert all(array.base is None for array in cache.past())
    np.testing.assert_array_equal(cache.past()[3], arrays[3][:, :, :2])
    cache.truncate(0)
    assert cache.length == 0


@pytest.mark.parametrize("length", [-1, 6])
def test_truncating_beyond_what_is_held_is_a_bug(cache, length):
    cache.replace(present(5))
    with pytest.raises(ValueError, match="holds 5"):
        cache.truncate(length)


@pytest.mark.parametrize(
    "arrays",
    [
        present(5, layers=1),
        present(5, kv_heads=2),
        present(5, head_dim=8),
        present(5, dtype=np.float16),
        [*present(5)[:3], present(6)[3]],
        [],
    ],
)
def test_a_cache_of_other_shape_is_an_engine_error(cache, arrays):
    with pytest.raises(EngineError, match=r"wanted 4 of float32 \[1, 3, C, 4\]"):
        cache.replace(arrays)
