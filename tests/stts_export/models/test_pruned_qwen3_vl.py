"""The pruned Qwen3-VL: features against the same mathematics written another way, and what a decoder sees of them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from reference.qwen3_vl_sizes import DECODER, GRID, TOKENS, TOWER, model_config, video_patches, video_token_ids
from torch import Tensor
from torch.nn import functional as F

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.models.decoder import feature_rows
from stts_export.models.model import Model
from stts_export.models.prefix_attention import prefix_mask
from stts_export.models.vision import run_vision, run_vision_dense
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.vision.plan import budget


def model_of(scorer: str = "cosine", seed: int = 0) -> Model:
    config = model_config(scorer, soft_bias=scorer == "learned")
    model = Model(config).eval()
    load_into(model, random_checkpoint(config, seed))
    return model


def moving(count: int) -> Tensor:
    """Patches of which some change from one temporal patch to the next, and others hardly."""
    still, noise = video_patches(1), video_patches(count, seed=1)
    change = torch.linspace(0, 1, GRID.patches)[None, :, None]
    return still * (1 - change) + noise * change


def block_by_hand(weights: dict[str, Tensor], hidden: Tensor, visible: Tensor) -> Tensor:
    """One block over all patches of all frames at once, [T * N, D]: who sees whom is a mask, turning is a product.

    Written from the formulas alone: complex numbers turn the planes, nothing is packed and nothing is gathered.
    """

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    heads, head = TOWER.heads, TOWER.width // TOWER.heads
    patch = torch.arange(len(hidden)) % GRID.patches
    row, column = patch // GRID.columns, patch % GRID.columns
    angles = [place * 10000.0 ** (-4 * i / head) for place in (row, column) for i in range(head // 4)]
    turn = torch.polar(torch.ones(len(hidden), head // 2), torch.stack(angles, dim=1))

    def turned(x: Tensor) -> Tensor:
        planes = torch.complex(x[..., : head // 2], x[..., head // 2 :]) * turn[:, None]
        return torch.cat([planes.real, planes.imag], dim=-1)

    normed = norm("attention_norm", hidden)
    query, key, value = (linear(f"attention.{name}", normed).unflatten(1, (heads, head)) for name in _PROJECTIONS)
    logits = torch.einsum("qhd,khd->hqk", turned(query), turned(key)) / head**0.5
    attended = torch.einsum("hqk,khd->qhd", logits.masked_fill(~visible, -torch.inf).softmax(-1), value)
    hidden = hidden + linear("attention.output", attended.flatten(1))
    return hidden + linear("mlp.down", F.gelu(linear("mlp.up", norm("mlp_norm", hidden)), approximate="tanh"))


_PROJECTIONS = ("query", "key", "value")


def features_by_hand(model: Model, patches: Tensor, keep: Tensor) -> Tensor:
    """Features of the kept groups, everything computed everywhere and pruned patches hidden from the tail's view."""
    everything = {name: tensor.detach() for name, tensor in model.state_dict().items()}

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in everything.items() if name.startswith(prefix)}

    count = len(patches)
    frame = torch.arange(count).repeat_interleave(GRID.patches)
    # groups of 2 x 2 patches, in raster order
    row, column = (torch.arange(GRID.patches) // GRID.columns) // 2, (torch.arange(GRID.patches) % GRID.columns) // 2
    group = row * (GRID.columns // 2) + column
    kept = keep[:, group].flatten()
    same = frame[:, None] == frame[None, :]
    hidden = model.vision_tower.embed(patches).flatten(0, 1)
    taps: dict[int, Tensor] = {}
    for index in range(TOWER.blocks):
        seen = same if index < TOWER.first_packed_block else same & (kept | ~kept[:, None])
        taps[index] = hidden = block_by_hand(part(f"vision_tower.blocks.{index}."), hidden, seen)

    def merged(weights: dict[str, Tensor], tap: Tensor, after: bool) -> Tensor:
        order = torch.argsort(frame * GRID.groups + group.repeat(count), stable=True)
        rows = tap[order].unflatten(0, (-1, 4))
        scale = weights["norm.weight"], weights["norm.bias"]
        rows = rows.flatten(1) if after else rows
        rows = F.layer_norm(rows, rows.shape[-1:], *scale, 1e-6).reshape(len(rows), -1)
        rows = F.gelu(rows @ weights["up.weight"].T + weights["up.bias"])
        return rows @ weights["down.weight"].T + weights["down.bias"]

    sets = [merged(part("connector.merger."), taps[TOWER.taps[0]], after=False)]
    for number, tap in enumerate(TOWER.taps[1:]):
        sets.append(merged(part(f"connector.deep_mergers.{number}."), taps[tap], after=True))
    return torch.cat(sets, dim=1)[keep.flatten()]


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7])
@torch.no_grad()
def test_features_of_kept_groups_equal_those_of_a_tail_that_hides_the_others(fraction: float) -> None:
    model, patches = model_of(), moving(4)
    result = run_vision(model, patches, prune_fraction=fraction, packing="ragged", soft_bias=False)
    assert int((~result.keep).sum()) == budget(GRID.groups, 4, fraction)
    assert result.keep[0].all()
    wanted = features_by_hand(model, patches, result.keep)
    torch.testing.assert_close(result.features, wanted, rtol=0, atol=2e-5)
    dense = run_vision_dense(model, patches, result.keep.numpy())
    assert (dense - wanted).abs().max() > 1e-3, "what was pruned must show in what is kept"


@torch.no_grad()
def test_all_kept_by_hand_is_the_dense_tower() -> None:
    model, patches = model_of(), moving(2)
    everything = torch.ones(2, GRID.groups, dtype=torch.bool)
    torch.testing.assert_close(
        features_by_hand(model, patches, everything), run_vision_dense(model, patches), rtol=0, atol=2e-5
    )


def decoded(model: Model, ids: Tensor, features: Tensor, positions: np.ndarray, hidden_keys: Sequence[int]) -> Tensor:
    """Logits of all places, with some keys hidden from everybody."""
    order, decoder = torch.arange(ids.shape[1]), model.decoder
    flags = torch.zeros(len(order), dtype=torch.bool)

    def core(query: Tensor, key: Tensor, value: Tensor, *where: Tensor) -> Tensor:
        seen = prefix_mask(*where)
        seen[:, list(hidden_keys)] = False
        seen |= torch.eye(len(order), dtype=torch.bool)  # of hidden tokens nothing is asked
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)

    rows, turn = feature_rows(ids, TOKENS.image_patch), torch.from_numpy(positions)
    states, _ = decoder.hidden_states(
        ids, features, rows, order, order, flags, decoder.empty_cache(), core, rope_positions=turn
    )
    return decoder.logits(states[0])


@torch.no_grad()
def test_a_shortened_prompt_is_the_whole_one_with_pruned_placeholders_hidden() -> None:
    model, patches = model_of(), moving(4)
    keep = run_vision(model, patches, prune_fraction=0.5, packing="ragged", soft_bias=False).keep.numpy()
    keep[2] = False  # a temporal patch of which nothing is left
    features = run_vision_dense(model, patches)
    whole = video_token_ids([GRID.groups] * 4)
    places = np.flatnonzero(whole[0] == TOKENS.image_patch)
    dropped = places[~keep.flatten()]
    stays = np.setdiff1d(np.arange(whole.shape[1]), dropped)
    short = whole[:, stays]
    assert np.array_equal(short, video_token_ids(keep.sum(axis=1).tolist()))

    dense, following = rope_positions(whole[0].numpy(), TOKENS, np.ones_like(keep), GRID)
    gathered, after = rope_positions(short[0].numpy(), TOKENS, keep, GRID)
    assert np.array_equal(gathered, dense[:, stays])
    assert after == following

    wanted = decoded(model, whole, features, dense, dropped.tolist())[stays]
    got = decoded(model, short, features[keep.flatten()], gathered, [])
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    assert (decoded(model, whole, features, dense, [])[stays] - wanted).abs().max() > 1e-3


def test_the_language_loss_reaches_the_scorer_through_the_soft_bias_alone() -> None:
    model = model_of("learned")
    for soft_bias in (True, False):
        result = run_vision(model, moving(3), prune_fraction=0.5, packing="ragged", soft_bias=soft_bias)
        assert result.features.shape[1] == 4 * DECODER.width
        loss, weight = result.features.square().sum(), model.scorer.mlp.first.weight
        (gradient,) = torch.autograd.grad(loss, weight, allow_unused=True)
        assert (gradient is not None and bool((gradient != 0).any())) == soft_bias


def test_every_weight_of_tower_and_mergers_gets_a_gradient() -> None:
    model = model_of("learned")
    result = run_vision(model, moving(3), prune_fraction=0.5, packing="ragged")
    (result.features.square().sum() + result.aux_loss).backward()
    vision = {name: p for name, p in model.named_parameters() if not name.startswith("decoder.")}
    assert [name for name, p in vision.items() if p.grad is None or not (p.grad != 0).any()] == []
