from itertools import pairwise

import pytest
import torch

from stts_export.models.attention import frame_attention, ragged_attention, scaled_attention, segment_attention
from stts_export.models.fused_attention import few_keys_attend, frame_attend, ragged_attend, segment_attend


HEADS = 3
WIDTH = 12


def qkv(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, WIDTH, generator=generator).requires_grad_() for _ in range(3)]


def same_with_gradients(found: torch.Tensor, wanted: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Hold results and gradients of what was computed in two ways from the same inputs against each other."""
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(result.square().sum(), inputs) for result in (found, wanted)]
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_frames_attend_as_in_the_graphs() -> None:
    inputs = qkv(4, 7)
    same_with_gradients(frame_attend(HEADS)(*inputs), frame_attention(*inputs, HEADS), inputs)


def test_a_bias_along_the_keys_acts_and_learns_as_in_the_graphs() -> None:
    inputs = qkv(4, 7)
    bias = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found, wanted = frame_attend(HEADS, bias)(*inputs), frame_attention(*inputs, HEADS, bias)
    same_with_gradients(found, wanted, [*inputs, bias])


def test_segments_attend_as_in_the_graphs_and_empty_slots_return_zero() -> None:
    inputs = qkv(2, 8)
    segments = torch.tensor([[3, 3, 3, 0, 0, -1, -1, -1], [1] * 8])
    found = segment_attend(HEADS, segments)(*inputs)
    same_with_gradients(found, segment_attention(*inputs, HEADS, segments), inputs)
    assert (found[0, 5:] == 0).all()


@pytest.mark.parametrize("lengths", [[5], [3, 4, 1], [2, 0, 0, 6, 0], [0, 3], [16, 5, 1, 8, 7, 16, 12, 3]])
def test_frames_end_to_end_attend_as_in_the_graphs_also_beside_empty_ones(lengths: list[int]) -> None:
    inputs = qkv(sum(lengths))
    ends = torch.tensor([0, *lengths]).cumsum(0)
    found = ragged_attend(HEADS, ends, max(lengths))(*inputs)
    same_with_gradients(found, ragged_attention(*inputs, HEADS, ends, torch.arange(max(lengths))), inputs)
    for first, last in pairwise(ends.tolist()):
        if first < last:
            alone = frame_attention(*(tensor[None, first:last] for tensor in inputs), HEADS)[0]
            torch.testing.assert_close(found[first:last], alone, atol=1e-6, rtol=1e-5)


def test_one_query_attends_over_few_keys_as_in_the_graphs() -> None:
    query, (_, key, value) = qkv(5, 1)[0], qkv(5, 4)
    found, wanted = few_keys_attend(HEADS)(query, key, value), scaled_attention(query, key, value, HEADS)
    same_with_gradients(found, wanted, [query, key, value])
