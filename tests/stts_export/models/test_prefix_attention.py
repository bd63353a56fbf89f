import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from stts_export.models.prefix_attention import prefix_attention, prefix_mask
from stts_runtime.language.kv_cache import EMPTY_POSITION


def slow_attention(query: Tensor, key: Tensor, value: Tensor, cached: int, vision: list[bool]) -> Tensor:
    """One head and one query at a time, over a list of the keys it may see."""
    heads, new, width = query.shape[1:]
    sharing = heads // key.shape[1]
    out = torch.zeros_like(query)
    for head in range(heads):
        for row in range(new):
            at = cached + row
            seen = [k for k in range(cached + new) if k <= at or (vision[k] and vision[at])]
            keys, values = key[0, head // sharing, seen], value[0, head // sharing, seen]
            weights = torch.softmax(keys @ query[0, head, row] / math.sqrt(width), dim=0)
            out[0, head, row] = weights @ values
    return out


@settings(max_examples=60, deadline=None)
@given(
    cached=st.integers(0, 5),
    vision=st.lists(st.booleans(), min_size=1, max_size=9),
    kv_heads=st.integers(1, 3),
    sharing=st.integers(1, 3),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_prefix_attention_equals_a_slow_one_with_explicit_key_lists(
    cached: int, vision: list[bool], kv_heads: int, sharing: int, seed: int, data: st.DataObject
) -> None:
    cached_vision = data.draw(st.lists(st.booleans(), min_size=cached, max_size=cached))
    generator = torch.Generator().manual_seed(seed)
    new, flags = len(vision), cached_vision + vision
    query = torch.randn(1, kv_heads * sharing, new, 8, generator=generator)
    key, value = torch.randn(2, 1, kv_heads, cached + new, 8, generator=generator)
    positions = torch.arange(cached, cached + new)
    got = prefix_attention(query, key, value, positions, torch.arange(cached + new), torch.tensor(flags))
    torch.testing.assert_close(got, slow_attention(query, key, value, cached, flags), rtol=0, atol=1e-5)


def test_text_sees_the_past_only_and_vision_tokens_see_each_other_both_ways() -> None:
    flags = torch.tensor([False, True, False, True, False])
    wanted = torch.ones(5, 5).tril().bool()
    wanted[1, 3] = True
    assert torch.equal(prefix_mask(torch.arange(5), torch.arange(5), flags), wanted)
    assert torch.equal(prefix_mask(torch.arange(3, 5), torch.arange(5), flags), wanted[3:])


def test_keys_are_seen_by_their_positions_wherever_they_lie_and_empty_slots_never() -> None:
    flags = torch.tensor([False, False, True, False, False, True])
    keys = torch.tensor([2, EMPTY_POSITION, 0, EMPTY_POSITION, 1, 3])
    wanted = torch.tensor([[0, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 1]]).bool()
    assert torch.equal(prefix_mask(torch.tensor([1, 3]), keys, flags), wanted)


def test_of_several_sequences_each_sees_its_own_keys_alone() -> None:
    flags, keys = torch.tensor([True, True, False, True]), torch.tensor([0, 0, 1, 1])
    rows, key_rows = torch.tensor([0, 1]), torch.tensor([0, 1, 0, 1])
    wanted = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]]).bool()
    assert torch.equal(prefix_mask(torch.tensor([1, 1]), keys, flags, rows, key_rows), wanted)
    one_row = torch.zeros(2), torch.zeros(4)
    whole = prefix_mask(torch.tensor([1, 1]), keys, flags)
    assert torch.equal(prefix_mask(torch.tensor([1, 1]), keys, flags, *one_row), whole)


def test_room_in_the_cache_changes_nothing_and_neither_does_the_order_in_it() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 3, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, 8, 8, generator=generator)
    positions, flags = torch.arange(5, 8), torch.tensor([False, True, True, False, False, False, True, False])
    wanted = prefix_attention(query, key, value, positions, torch.arange(8), flags)

    slots = torch.tensor([4, 0, 6, 2, 3])  # of the five cached tokens among nine

    def spread(new: torch.Tensor, old: torch.Tensor, fill: float, axis: int) -> torch.Tensor:
        shape = list(old.shape)
        shape[axis] = 9
        return torch.cat((torch.full(shape, fill, dtype=old.dtype).index_copy(axis, slots, old), new), axis)

    keys, values = (spread(x[:, :, 5:], x[:, :, :5], 7.0, 2) for x in (key, value))
    key_positions = spread(positions, torch.arange(5), EMPTY_POSITION, 0)
    got = prefix_attention(query, keys, values, positions, key_positions, spread(flags[5:], flags[:5], False, 0))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_half_precision_keeps_its_dtype_and_takes_the_softmax_in_float32() -> None:
    query, key, value = (8 * torch.randn(1, 4, 6, 64, generator=torch.Generator().manual_seed(i)) for i in range(3))
    arguments = torch.arange(6), torch.arange(6), torch.zeros(6, dtype=torch.bool)
    exact = prefix_attention(query, key, value, *arguments)
    half = prefix_attention(query.half(), key.half(), value.half(), *arguments)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.3)
