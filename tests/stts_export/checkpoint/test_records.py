"""Tensors that are stacked: announced as what they will be, and read only then."""

import pytest
import torch

from stts_export.checkpoint.records import LazyTensor, stacked


def lazy(name, tensor, reads):
    def load():
        reads.append(name)
        return tensor

    return LazyTensor(tuple(tensor.shape), tensor.dtype, f"file: {name}", load)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_one_stand_below_those_of_the_other(dtype):
    reads = []
    first, second = torch.ones(2, 3, dtype=dtype), torch.zeros(1, 3, dtype=dtype)
    whole = stacked([lazy("a", first, reads), lazy("b", second, reads)])
    assert (whole.shape, whole.dtype, whole.source, reads) == ((3, 3), dtype, "file: a, file: b", [])
    loaded = whole.load()
    assert reads == ["a", "b"]
    assert loaded.dtype == dtype
    assert loaded.tolist() == [*first.tolist(), *second.tolist()]


def test_one_alone_is_itself():
    one = lazy("a", torch.ones(2, 3), [])
    assert stacked([one]) is one
