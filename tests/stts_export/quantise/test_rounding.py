"""Weights in whole numbers: how far they are from their floats, and that a grid they lie on already is found again."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import given, strategies as st

from stts_export.quantise.choice import INT4, INT8, INT8_ROWS
from stts_export.quantise.rounding import NUMBERS, OFFSETS, SCALES, Rounding, rounded, stored_parts


ROUNDINGS = (INT8, INT4, INT8_ROWS, Rounding(8, 32, has_offsets=True), Rounding(4, 64))


def weight(rows=6, columns=128, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_weight_is_half_a_step_from_its_float_at_most(rounding, dtype):
    floats = weight().to(dtype)
    found = rounded(floats, rounding)
    assert found.numbers.dtype == torch.int8
    assert int(found.numbers.min()) >= -rounding.zero
    assert int(found.numbers.max()) < rounding.zero
    step = found.scales.repeat_interleave(rounding.block or 128, dim=1)
    assert bool(((found.floats() - floats.float()).abs() <= step * 0.501).all())


@pytest.mark.parametrize(
    ("kind", "rounding"), [(gguf.GGMLQuantizationType.Q4_1, INT4), (gguf.GGMLQuantizationType.Q8_0, INT8)]
)
def test_what_was_rounded_before_is_kept_as_it_is(kind, rounding):
    content = quantize(weight(16, 256, seed=3).numpy(), kind)
    floats = dequantize(content, kind)
    found = rounded(torch.from_numpy(floats), rounding)
    np.testing.assert_allclose(found.floats().numpy(), floats, rtol=0, atol=1e-6 * np.abs(floats).max())
    if kind == gguf.GGMLQuantizationType.Q8_0:
        blocks = content.reshape(16, 8, 34)[..., 2:].view(np.int8)
        np.testing.assert_array_equal(found.numbers.numpy().reshape(16, 8, 32), blocks)


@given(st.lists(st.floats(-3e4, 3e4, width=32), min_size=32, max_size=32))
def test_any_block_is_rounded_to_finite_numbers(values):
    block = torch.tensor([values])
    for rounding in (INT8, INT4):
        found = rounded(block, rounding)
        assert bool(found.floats().isfinite().all())
        error, most = (found.floats() - block).abs().max(), block.abs().max()
        # what is smaller than the numbers that floats hold whole has no scale, and is 0
        assert (
            float(error)
            <= 0.51 * float(found.scales.max()) + 1e-6 * float(most) + torch.finfo(torch.float32).tiny * 200
        )


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("constant", [0.0, 2.5])
def test_a_block_of_one_value_is_exact(rounding, constant):
    floats = torch.full((2, rounding.block or 128), constant)
    torch.testing.assert_close(rounded(floats, rounding).floats(), floats)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_what_is_stored_takes_what_is_said_and_says_the_same(rounding):
    floats = rounded(weight(), rounding).floats()
    parts = stored_parts([rounded(piece, rounding) for piece in weight().split(4)], rounding)
    assert list(parts) == [NUMBERS, SCALES, OFFSETS][: 3 if rounding.has_offsets else 2]
    assert sum(part.numel() * part.element_size() for part in parts.values()) == rounding.stored_bytes(6, 128)
    numbers = parts[NUMBERS]
    if rounding.block is None:
        torch.testing.assert_close(numbers.T.float() * parts[SCALES][:, None], floats, rtol=0, atol=0)
        return
    if rounding.bits == 4:
        numbers = torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(1)
    blocks = (numbers.float() - rounding.zero).unflatten(1, (-1, rounding.block)) * parts[SCALES][..., None]
    if rounding.has_offsets:
        blocks = blocks + parts[OFFSETS].T[..., None]
    torch.testing.assert_close(blocks.flatten(1), floats, rtol=0, atol=0)
