"""Keys and values in 8 bits: near what they stand for, and the same wherever a prompt is cut."""

import pytest
import torch
from reference.decoding import grown_cache
from reference.toy_bundle import toy_config, toy_model

from stts_export.models.decoder import Decoder, feature_rows
from stts_export.models.kv_cache import SMALLEST_SCALE, Cache, appended, restored, rounded


HEADS, WIDTH, TOKENS = 2, 16, 24


def rows_of(*magnitudes: float) -> torch.Tensor:
    """Rows [1, HEADS, len(magnitudes), WIDTH] of which each has a size of its own."""
    drawn = torch.randn(1, HEADS, len(magnitudes), WIDTH, generator=torch.Generator().manual_seed(0))
    return drawn * torch.tensor(magnitudes)[:, None]


def test_a_number_is_within_half_a_step_of_what_it_stands_for_however_large_its_row_is() -> None:
    rows = rows_of(1e-4, 0.3, 1.0, 250.0, 6e4)
    numbers, scales = rounded(rows)
    assert (numbers.dtype, scales.shape) == (torch.int8, (1, HEADS, 5, 1))
    assert numbers.abs().amax(-1).eq(127).all()
    assert ((restored(numbers, scales) - rows).abs() <= 0.501 * scales).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_number_leaves_8_bits_whatever_the_precision(dtype: torch.dtype) -> None:
    rows = (rows_of(*(2.0**power for power in range(-30, 15)))).to(dtype)
    numbers, scales = rounded(rows)
    assert int(numbers.min()) >= -127
    assert torch.equal(numbers.sign().float() * rows.float().sign(), numbers.float().abs().sign())
    assert restored(numbers, scales).isfinite().all()


def test_zeros_stay_zeros_and_what_is_smaller_than_a_step_becomes_zero() -> None:
    numbers, scales = rounded(rows_of(0.0, SMALLEST_SCALE / 100))
    assert not numbers.any()
    assert scales.eq(SMALLEST_SCALE).all()


def test_new_entries_take_the_form_of_the_cache() -> None:
    key, value = rows_of(1.0, 2.0), rows_of(3.0, 0.1)
    keys, values, entries = appended(None, key, value)
    assert keys is key
    assert values is value
    assert len(entries) == 2
    keys, values, entries = appended(empty_cache(HEADS, WIDTH), key, value)
    assert [entry.dtype for entry in entries] == [torch.int8, torch.float32] * 2
    torch.testing.assert_close(keys, restored(*entries[:2]))
    torch.testing.assert_close(values, restored(*entries[2:]))


def empty_cache(heads: int, width: int) -> Cache:
    """The cache in 8 bits before the first token."""
    numbers, scales = torch.zeros(1, heads, 0, width, dtype=torch.int8), torch.zeros(1, heads, 0, 1)
    return numbers, scales, numbers, scales


def read_in_pieces(decoder: Decoder, ids: torch.Tensor, cache: list[Cache], *sizes: int) -> torch.Tensor:
    """Logits after all of `ids` [1, S], which are read in pieces of these sizes; the first half is vision."""
    flags, start = torch.arange(ids.shape[1]) < ids.shape[1] // 2, 0
    features = torch.zeros(1, decoder.config.width)
    for size in sizes:
        end = start + size
        positions, piece = torch.arange(end), ids[:, start:end]
        rows = feature_rows(piece, decoder.image_patch)
        logits, new = decoder(piece, features, rows, positions[start:], positions, flags[:end], cache)
        cache, start = grown_cache(cache, new), end
    return logits


@pytest.mark.parametrize("kind", ["qwen3", "llama", "olmo3"])
def test_an_answer_does_not_depend_on_where_the_prompt_is_cut(kind: str) -> None:
    decoder = toy_model(toy_config(kind, "none")).decoder
    shape = decoder.config
    ids = torch.randint(3, shape.vocabulary, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        rounded_cache = [empty_cache(shape.kv_heads, shape.head_dim)] * shape.layers
        whole = read_in_pieces(decoder, ids, rounded_cache, TOKENS)
        half = TOKENS // 2  # vision tokens see each other, so they are read together
        pieces = read_in_pieces(decoder, ids, rounded_cache, half, 5, 1, TOKENS - half - 6)
        floats = read_in_pieces(decoder, ids, decoder.empty_cache(), TOKENS)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    error = float((whole - floats).abs().max() / floats.abs().max())
    assert 1e-5 < error < 0.05
