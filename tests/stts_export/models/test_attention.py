from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from stts_export.models.attention import frame_attention, ragged_attention, segment_attention


HEADS = 3
WIDTH = 12


def qkv(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, WIDTH, generator=generator) for _ in range(3))


def reference(query, key, value, bias=None):
    """Attention of one frame [N, D] by torch's own function in float64; `bias` [N] along the keys."""
    q, k, v = (x.double().unflatten(-1, (HEADS, -1)).transpose(0, 1) for x in (query, key, value))
    mask = None if bias is None else bias.double().expand(q.shape[1], -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1).flatten(1).float()


def test_frames_attend_within_themselves():
    q, k, v = qkv(4, 7)
    expected = torch.stack([reference(q[t], k[t], v[t]) for t in range(4)])
    torch.testing.assert_close(frame_attention(q, k, v, HEADS), expected)


def test_a_key_bias_shifts_the_logits_of_its_key_in_every_head():
    q, k, v = qkv(4, 7)
    bias = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([reference(q[t], k[t], v[t], bias[t]) for t in range(4)])
    torch.testing.assert_close(frame_attention(q, k, v, HEADS, bias), expected)


def test_half_precision_inputs_lose_no_more_than_their_own_rounding():
    q, k, v = (x.half() for x in qkv(1, 700))
    expected = reference(q[0], k[0], v[0])
    found = frame_attention(q, k, v, HEADS)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found[0].float(), expected, atol=1e-3, rtol=1e-3)


def test_segments_attend_within_themselves_and_empty_slots_return_zero():
    q, k, v = qkv(2, 8)
    segments = torch.tensor([[3, 3, 3, 0, 0, -1, -1, -1], [1] * 8])
    found = segment_attention(q, k, v, HEADS, segments)
    for b, first, last in ((0, 0, 3), (0, 3, 5), (1, 0, 8)):
        within = slice(first, last)
        torch.testing.assert_close(found[b, within], reference(q[b, within], k[b, within], v[b, within]))
    assert (found[0, 5:] == 0).all()


def test_what_lies_in_empty_slots_reaches_neither_result_nor_gradient():
    q, k, v = (x.requires_grad_() for x in qkv(1, 6))
    segments = torch.tensor([[0, 0, 1, 1, -1, -1]])
    segment_attention(q, k, v, HEADS, segments).square().sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all()
        assert (x.grad[0, 4:] == 0).all()


@pytest.mark.parametrize("lengths", [[5], [3, 4, 1], [2, 0, 0, 6, 0], [0, 3]])
def test_frames_laid_end_to_end_attend_within_themselves_also_beside_empty_ones(lengths):
    q, k, v = (x.requires_grad_() for x in qkv(sum(lengths)))
    cumulative = torch.tensor([0, *lengths]).cumsum(0)
    found = ragged_attention(q, k, v, HEADS, cumulative, torch.arange(max(lengths)))
    for first, last in pairwise(cumulative.tolist()):
        if first < last:
            within = slice(first, last)
            torch.testing.assert_close(found[within], reference(q[within], k[within], v[within]))
    found.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_positions_longer_than_the_longest_frame_change_nothing():
    q, k, v = qkv(9)
    cumulative = torch.tensor([0, 4, 9])
    exact = ragged_attention(q, k, v, HEADS, cumulative, torch.arange(5))
    torch.testing.assert_close(ragged_attention(q, k, v, HEADS, cumulative, torch.arange(8)), exact)


def test_every_core_is_captured_with_sizes_left_open():
    class Cores(torch.nn.Module):
        def forward(self, q, k, v, bias, segments, cumulative, positions):
            rows = [x.flatten(0, 1) for x in (q, k, v)]
            return (
                frame_attention(q, k, v, HEADS, bias),
                segment_attention(q, k, v, HEADS, segments),
                ragged_attention(*rows, HEADS, cumulative, positions),
            )

    def inputs(frames, slots):
        lengths = torch.full((frames + 1,), slots)
        lengths[0] = 0
        segments = torch.arange(frames)[:, None].expand(frames, slots)
        return *qkv(frames, slots), torch.ones(frames, slots), segments, lengths.cumsum(0), torch.arange(slots)

    both, first = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Cores(), inputs(3, 8), dynamic_shapes=(both, both, both, both, both, first, first))
    for sizes in ((5, 6), (2, 11)):
        for found in program.module()(*inputs(*sizes)):
            expected = frame_attention(*inputs(*sizes)[:3], HEADS)
            torch.testing.assert_close(found.reshape(expected.shape), expected)
