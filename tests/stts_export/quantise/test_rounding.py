"""Weights in whole numbers: how far they are from their floats, and that a grid they lie on already is found again."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import given, strategies as st
from onnx import TensorProto
from onnx.numpy_helper import to_array

from stts_export.quantise.choice import FP8_ROWS, INT4, INT4_BLOCKS, INT8, INT8_ROWS, NVFP4, Q4_1
from stts_export.quantise.layout import NUMBERS, OFFSETS, SCALES, SIGNED, UNIT, ZEROS, stored_part
from stts_export.quantise.rounding import ANY, E2M1, FLOAT8, SHARES, WHOLE, Rounding, pieces_of, restored, rounded


FOR_TENSORRT = (INT8_ROWS, INT4_BLOCKS, FP8_ROWS, NVFP4)
ROUNDINGS = (INT8, INT4, Q4_1, INT8_ROWS, Rounding(8, 32, offsets=ANY), Rounding(4, 64))


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
    cut = (1 - SHARES[-1]) * (rounding.largest + rounding.zero) + 1 if rounding.offsets == WHOLE else 0.501
    assert bool(((found.floats() - floats.float()).abs() <= step * cut).all())


@pytest.mark.parametrize(
    ("kind", "rounding"), [(gguf.GGMLQuantizationType.Q4_1, Q4_1), (gguf.GGMLQuantizationType.Q8_0, INT8)]
)
def test_what_was_rounded_before_is_kept_as_it_is(kind, rounding):
    content = quantize(weight(16, 256, seed=3).numpy(), kind)
    floats = dequantize(content, kind)
    found = rounded(torch.from_numpy(floats), rounding)
    np.testing.assert_allclose(found.floats().numpy(), floats, rtol=0, atol=1e-6 * np.abs(floats).max())
    if kind == gguf.GGMLQuantizationType.Q8_0:
        blocks = content.reshape(16, 8, 34)[..., 2:].view(np.int8)
        np.testing.assert_array_equal(found.numbers.numpy().reshape(16, 8, 32), blocks)


def test_zero_points_cost_no_more_than_offsets_of_any_size_where_weights_are_as_trained_ones_are():
    floats = weight(64, 512)
    errors = [float((rounded(floats, one).floats() - floats).square().mean()) for one in (INT4, Q4_1, INT4_BLOCKS)]
    assert errors[0] < 1.02 * errors[1]
    assert errors[0] < 0.8 * errors[2]


def test_the_share_of_a_range_that_leaves_the_least_error_is_taken(monkeypatch):
    floats = weight(64, 512)
    error = (rounded(floats, INT4).floats() - floats).square().unflatten(1, (-1, 32)).sum(-1)
    for share in SHARES:
        monkeypatch.setattr("stts_export.quantise.rounding.SHARES", (share,))
        alone = (rounded(floats, INT4).floats() - floats).square().unflatten(1, (-1, 32)).sum(-1)
        assert bool((error <= alone * 1.0001).all())


@given(st.lists(st.floats(-3e4, 3e4, width=32), min_size=32, max_size=32))
def test_any_block_is_rounded_to_finite_numbers(values):
    block = torch.tensor([values])
    for rounding in (INT8, INT4, Q4_1):
        found = rounded(block, rounding)
        assert bool(found.floats().isfinite().all())
        error, most = (found.floats() - block).abs().max(), block.abs().max()
        # what is smaller than the numbers that floats hold whole has no scale, and is 0
        faint = 1e-6 * float(most) + torch.finfo(torch.float32).tiny * 200
        steps = 3 if rounding.offsets == WHOLE else 0.51  # an extreme may be cut
        assert float(error) <= steps * float(found.scales.max()) + faint


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("constant", [0.0, 2.5])
def test_a_block_of_one_value_is_exact(rounding, constant):
    floats = torch.full((2, rounding.block or 128), constant)
    torch.testing.assert_close(rounded(floats, rounding).floats(), floats)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_what_is_stored_takes_what_is_said_and_says_the_same(rounding):
    found = rounded(weight(), rounding)
    names = [NUMBERS, SCALES, *{ANY: [OFFSETS], WHOLE: [ZEROS], None: []}[rounding.offsets]]
    parts = {name: stored_part(found, rounding, name, torch.float32) for name in names}
    assert sum(part.numel() * part.element_size() for part in parts.values()) == rounding.stored_bytes(6, 128)
    numbers = parts[NUMBERS]
    if rounding.block is None:
        torch.testing.assert_close(numbers.T.float() * parts[SCALES][:, None], found.floats(), rtol=0, atol=0)
        return
    if rounding.bits == 4:
        numbers = torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(1)
    blocks = numbers.float().unflatten(1, (-1, rounding.block))
    if rounding.offsets == WHOLE:
        packed = parts[ZEROS]
        zeros = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1)[:, : blocks.shape[1], None].float()
    else:
        zeros = float(rounding.zero)
    blocks = (blocks - zeros) * parts[SCALES][..., None]
    if rounding.offsets == ANY:
        blocks = blocks + parts[OFFSETS].T[..., None]
    rest = 1e-6 if rounding.offsets == WHOLE else 0  # sums are rounded in another order
    torch.testing.assert_close(blocks.flatten(1), found.floats(), rtol=0, atol=rest)


def held_in(rounding, dtype):
    return rounding if rounding.scales == FLOAT8 else replace(rounding, scales=dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rounding", FOR_TENSORRT)
def test_scales_are_exact_in_what_they_are_stored_in_and_numbers_make_up_for_it(rounding, dtype):
    rounding = held_in(rounding, dtype)
    for gain in (1.0, 1e-6, 300.0):
        floats = gain * weight()
        floats[1] = 0
        found = rounded(floats, rounding)
        assert bool((found.scales > 0).all())
        stored = stored_part(found, rounding, SCALES, None if rounding.scales == FLOAT8 else getattr(torch, dtype))
        torch.testing.assert_close(
            stored.float().reshape(found.scales.shape) * found.unit, found.scales, rtol=0, atol=0
        )
        assert not found.floats()[1].any()
        step = found.scales.repeat_interleave(rounding.block or 128, dim=1)
        # between floats a step grows with the number: half of 1/8 of it at E4M3, of 2 at E2M1's 4 to 6
        half = {"int8": 0.5, "int4": 0.5, "fp8": 16.0, "fp4": 1.0}[rounding.name]
        rest = rounding.largest * 2.0 ** (-4 if rounding.scales == FLOAT8 else -8)  # of a scale that was rounded down
        if gain != 1e-6:  # below half precision's normal numbers scales are coarse
            assert bool(((found.floats() - floats).abs() <= step * (half + rest)).all())


@pytest.mark.parametrize("rounding", FOR_TENSORRT)
def test_rows_may_be_rounded_a_few_at_a_time(rounding, monkeypatch):
    whole = rounded(weight(), rounding)
    monkeypatch.setattr("stts_export.quantise.rounding.PIECE_ELEMENTS", 4 * weight().shape[1] + 1)
    assert [len(piece) for piece in pieces_of(weight())] == [4, 2]
    few = rounded(weight(), rounding)
    assert few.unit == whole.unit
    torch.testing.assert_close(few.floats(), whole.floats(), rtol=0, atol=0)
    torch.testing.assert_close(restored(weight(), rounding), whole.floats(), rtol=0, atol=0)


@pytest.mark.parametrize("turned", ["", ".T"])
@pytest.mark.parametrize("rounding", FOR_TENSORRT)
def test_onnx_reads_stored_parts_as_what_they_stand_for(rounding, turned):
    found = rounded(weight(), held_in(rounding, "float16"))
    kind = {"int8": TensorProto.INT8, "int4": TensorProto.INT4, "fp8": TensorProto.FLOAT8E4M3FN}
    kind["fp4"] = TensorProto.FLOAT4E2M1
    numbers = stored_part(found, rounding, SIGNED + turned)
    scales = stored_part(found, rounding, SCALES + turned, None if rounding.scales == FLOAT8 else torch.float16)
    unit = stored_part(found, rounding, UNIT, torch.float16).float() if rounding.scales == FLOAT8 else 1.0
    size = numbers.numel() * numbers.element_size() + scales.numel() * scales.element_size()
    assert size == held_in(rounding, "float16").stored_bytes(6, 128)
    tensor = TensorProto(
        dims=[128, 6] if turned else [6, 128],
        data_type=kind[rounding.name],
        raw_data=numbers.view(torch.uint8).numpy().tobytes(),
    )
    read = torch.from_numpy(to_array(tensor).astype(np.float32))
    wide = (scales.float() * unit).reshape(6, 1) if rounding.block is None else scales.float() * unit
    if rounding.block is not None:
        wide = wide.repeat_interleave(rounding.block, dim=0 if turned else 1)
    elif turned:
        wide = wide.T
    floats = read * wide
    torch.testing.assert_close(floats.T if turned else floats, found.floats(), rtol=0, atol=0)


def test_floats_of_4_bits_are_the_nearest_there_are():
    row = torch.tensor([[0.0, 0.2, 0.3, 0.8, 1.2, 1.6, 2.4, 2.6, 3.4, 3.6, 4.9, 5.1, 6.0, -0.3, -5.1, -6.0]])
    found = rounded(row, NVFP4)
    expected = [0, 0, 0.5, 1, 1, 1.5, 2, 3, 3, 4, 4, 6, 6, -0.5, -6, -6]
    assert found.floats().tolist() == [expected]
    assert set(map(abs, expected)) == set(E2M1)
