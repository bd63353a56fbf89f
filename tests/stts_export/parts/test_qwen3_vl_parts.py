"""Qwen3-VL's parts in their engines: equal to the torch model, and as cheap as what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.decoding import grown_cache
from reference.qwen3_vl_bundle import LIMITS, clip, config_of, ours
from reference.qwen3_vl_sizes import GRID, TOWER, video_token_ids

from stts_export.estimate import count
from stts_export.estimate.count import Packed
from stts_export.graph.capture import weightless_model
from stts_export.models.decoder import feature_rows
from stts_export.models.model import Model
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.parts import parts_of
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import open_bundle
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.language.generation import Decoding
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.session import Session, load
from stts_runtime.timings import Timings
from stts_runtime.vision.run import dense_vision


FRAMES, PATCHES = 9, 5  # an odd number of frames, in chunks of two temporal patches


@pytest.fixture(scope="module")
def model(qwen_bundle: Callable[[str], Path]) -> Model:
    return ours(qwen_bundle("ragged").parent / "checkpoint", "cosine")


@pytest.fixture(params=["ragged", "ffd"], scope="module")
def session(request: pytest.FixtureRequest, qwen_bundle: Callable[[str], Path]) -> Session:
    with load(qwen_bundle(request.param)) as opened:
        yield opened


def read(session: Session, frames: np.ndarray):
    return session.read(frames)


def close(got: np.ndarray, wanted: torch.Tensor, tolerance: float = 2e-5) -> None:
    scale = float(wanted.abs().max())
    np.testing.assert_allclose(got / scale, wanted.numpy() / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("fraction", [0.3, 0.6])
@torch.no_grad()
def test_pruned_features_of_all_sets_are_those_of_the_torch_model(
    session: Session, qwen_bundle: Callable[[str], Path], fraction: float
) -> None:
    pruning = session.manifest.pruning
    whole = ours(qwen_bundle("ragged").parent / "checkpoint", pruning.scorer)
    frames = clip(FRAMES)
    patches = torch.from_numpy(patches_from_frames(frames, GRID))
    wanted = run_vision(whole, patches, prune_fraction=fraction, packing=pruning.packing, soft_bias=False)
    vision = session.vision(session.read(frames), fraction)
    assert vision.keep.shape == (PATCHES, GRID.groups)
    assert np.array_equal(vision.keep, wanted.keep.numpy())
    assert vision.keep[0].all()
    assert vision.features.shape == (int(vision.keep.sum()), 4 * whole.config.decoder.width)
    close(vision.features, wanted.features)


@torch.no_grad()
def test_at_prune_0_features_are_the_dense_models_and_those_of_a_bundle_that_is_built_dense(
    session: Session, model: Model, qwen_bundle: Callable[[str], Path]
) -> None:
    frames = clip(FRAMES, seed=1)
    got = session.vision(session.read(frames), 0)
    close(got.features, run_vision_dense(model, torch.from_numpy(patches_from_frames(frames, GRID))))
    with load(qwen_bundle("dense")) as dense:
        other = dense_vision(dense.engine("vision_dense"), frames, dense.manifest, Timings())
    assert np.array_equal(got.features, other.features)
    assert got.keep.all()


@torch.no_grad()
def test_the_decoder_reads_a_pruned_prompt_and_its_answer_as_torch_does(session: Session, model: Model) -> None:
    """Places and rotary positions part at the first frame, and stay apart behind the last."""
    manifest, decoder = session.manifest, model.decoder
    vision = session.vision(session.read(clip(6)), 0.5)
    ids = retold(video_token_ids(vision.keep.sum(axis=1).tolist()), manifest)
    positions, following = rope_positions(ids[0].numpy(), manifest.tokens, vision.keep, GRID)
    order = torch.arange(ids.shape[1])
    assert not np.array_equal(positions[0], order.numpy())
    rows, features = feature_rows(ids, manifest.tokens.image_patch), torch.from_numpy(np.array(vision.features))
    flags, cache = torch.zeros(len(order), dtype=torch.bool), decoder.empty_cache()
    turn = torch.from_numpy(positions)
    wanted, new = decoder(ids, features, rows, order, order, flags, cache, rope_positions=turn)
    decoding = Decoding(session.engine("decoder"), manifest)
    logits = decoding.read(ids[0].numpy(), np.zeros(len(order), bool), vision.features, vision.keep)
    close(logits[None], wanted)
    assert decoding.rope_offset == following - ids.shape[1]

    cache = grown_cache(cache, new)
    for token in (5, 9, 11):
        end = cache[0][0].shape[2] + 1
        step = torch.tensor([[token]])
        none, slots = torch.zeros(1, features.shape[1]), torch.arange(end)
        wanted, new = decoder(
            step,
            none,
            torch.zeros(1, dtype=torch.int64),
            slots[-1:],
            slots,
            torch.zeros(end, dtype=torch.bool),
            cache,
            rope_positions=torch.full((3, 1), following),
        )
        close(decoding.read(step[0].numpy(), np.zeros(1, bool))[None], wanted)
        cache, following = grown_cache(cache, new), following + 1


def retold(ids: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    """The toy's prompt with the ids that the bundle's tokenizer has for markers."""
    from reference.qwen3_vl_sizes import TOKENS

    own = manifest.tokens
    pairs = (
        (TOKENS.image_patch, own.image_patch),
        (TOKENS.frame_start, own.frame_start),
        (TOKENS.frame_end, own.frame_end),
    )
    moved = ids.clone() % 250
    for theirs, mine in pairs:
        moved[ids == theirs] = mine
    return moved


def test_a_decoder_that_sees_causally_has_no_flags_and_one_that_turns_by_three_has_their_positions() -> None:
    config = config_of("cosine")
    *_, decoder, rows = parts_of(weightless_model(config), config, replace(LIMITS, max_rows=2), "ragged")
    names = [tensor.name for tensor in decoder.spec.inputs]
    assert names[:6] == ["token_ids", "features", "feature_rows", "positions", "past_positions", "rope_positions"]
    assert not any("vision_flags" in name for name in names)
    assert decoder.spec.tensor("rope_positions").shape == (3, "S")
    assert rows.spec.tensor("rope_positions").shape == ("R",)
    turned = replace(config, decoder=replace(config.decoder, causal=False, rope_sections=None))
    *_, other = parts_of(weightless_model(turned), turned, LIMITS, "ragged")
    assert [tensor.name for tensor in other.spec.inputs][5:7] == ["past_vision_flags", "vision_flags"]


def test_mergers_and_deepstack_see_kept_groups_alone(qwen_bundle: Callable[[str], Path]) -> None:
    """By the counted work, which another test holds equal to the graphs: halving what is kept halves the tail."""
    config = config_of("cosine")
    dense = count.vision_dense(config, PATCHES)
    head = count.vision_score(config, PATCHES)
    assert TOWER.first_packed_block == 3

    def tail(kept: int) -> count.Work:
        rows = kept * GRID.pool**2
        return count.vision_encode(config, Packed(PATCHES, rows // PATCHES, rows), kept)

    everything = PATCHES * GRID.groups
    whole, third = tail(everything), tail(everything // 3)
    assert (head + whole).flops == dense.flops
    assert third.linear_flops * 3 == whole.linear_flops
    assert third.attention_flops * 9 == whole.attention_flops
    manifest = open_bundle(qwen_bundle("ragged")).manifest
    spec = manifest.graphs["vision_encode"].spec
    assert spec.tensor("features").shape == ("K", 4 * config.decoder.width)
