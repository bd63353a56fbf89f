"""The dense Qwen3-VL against transformers, weights carried over through a saved checkpoint and the real name map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.decoding import grown_cache
from reference.qwen3_vl import Qwen3VLReference, reference_model
from reference.qwen3_vl_sizes import DECODER, GRID, GRIDS, TOKENS, model_config, video_patches, video_token_ids
from torch import Tensor

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.open import open_checkpoint
from stts_export.models.decoder import Decoder, feature_rows
from stts_export.models.model import Model
from stts_export.models.prefix_attention import prefix_attention
from stts_export.models.vision import run_vision, run_vision_dense
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.language.rope_positions import rope_positions


ANSWER = 12


@pytest.fixture(scope="module")
def theirs() -> Qwen3VLReference:
    return reference_model()


@pytest.fixture(scope="module")
def saved(theirs: Qwen3VLReference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen3_vl")
    theirs.save(path)
    assert len(list(path.glob("*.safetensors"))) > 1
    return path


def ours_of(saved: Path, grid: Grid, scorer: str = "none") -> Model:
    config = model_config(scorer, grid=grid)
    checkpoint = open_checkpoint(saved, config)
    assert (checkpoint.layout, checkpoint.notes) == ("qwen3_vl", ())
    model = Model(config).eval()
    load_into(model, checkpoint)
    return model


def whole(count: int, grid: Grid) -> np.ndarray:
    return np.ones((count, grid.groups), bool)


def logits_of(decoder: Decoder, token_ids: Tensor, features: Tensor, positions: np.ndarray) -> Tensor:
    """Return float32 logits [S, vocabulary] of every place of a whole prompt."""
    order = torch.arange(token_ids.shape[1])
    flags = token_ids[0] == TOKENS.image_patch  # of no consequence to a causal model
    rows = feature_rows(token_ids, TOKENS.image_patch)
    cache, turn = decoder.empty_cache(), torch.from_numpy(positions)
    hidden, _ = decoder.hidden_states(token_ids, features, rows, order, order, flags, cache, prefix_attention, turn)
    return decoder.logits(hidden[0])


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.rows}x{grid.columns}")
@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_features_of_all_sets_positions_and_logits_equal(
    theirs: Qwen3VLReference, saved: Path, grid: Grid, count: int
) -> None:
    ours, patches, token_ids = ours_of(saved, grid), video_patches(count, grid), video_token_ids([grid.groups] * count)
    features = run_vision_dense(ours, patches)
    wanted = torch.cat(theirs.features(patches, grid), dim=1)
    assert wanted.shape == features.shape == (count * grid.groups, 4 * DECODER.width)
    assert wanted.std() > 0.3
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-5)

    positions, following = rope_positions(token_ids[0].numpy(), TOKENS, whole(count, grid), grid)
    wanted_positions, delta = theirs.positions(token_ids, patches, grid)
    assert np.array_equal(positions, wanted_positions.numpy())
    assert following == token_ids.shape[1] + delta

    wanted_logits = theirs.logits(token_ids, patches, grid)
    got = logits_of(ours.decoder, token_ids, features, positions)
    torch.testing.assert_close(got, wanted_logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_toy_tells_what_could_be_left_out(theirs: Qwen3VLReference, saved: Path) -> None:
    """Logits move far when features of one of the sets, or one of the axes, are taken away."""
    ours, patches, token_ids = ours_of(saved, GRID), video_patches(3), video_token_ids([GRID.groups] * 3)
    features = run_vision_dense(ours, patches)
    positions, _ = rope_positions(token_ids[0].numpy(), TOKENS, whole(3, GRID), GRID)
    wanted = theirs.logits(token_ids, patches, GRID)

    def distance(features: Tensor, positions: np.ndarray) -> float:
        return float((logits_of(ours.decoder, token_ids, features, positions)[-1] - wanted[-1]).abs().max())

    assert distance(features, positions) < 1e-4
    for one in range(4):
        fewer = features.clone()
        fewer[:, one * DECODER.width : (one + 1) * DECODER.width] = 0
        assert distance(fewer, positions) > 0.01
    for axis in range(3):
        flat = positions.copy()
        flat[axis] = positions.max(axis=0)
        assert distance(features, flat) > 0.01
    in_sequence = np.repeat(np.arange(token_ids.shape[1])[None], 3, axis=0)
    assert distance(features, in_sequence) > 0.01


@torch.no_grad()
def greedy(decoder: Decoder, token_ids: Tensor, features: Tensor, positions: np.ndarray, following: int) -> list[int]:
    """Decode as the runtime will: what follows the prompt has one position on all axes, and a place of its own."""
    cache, tokens, ids, start, turn = decoder.empty_cache(), [], token_ids, 0, torch.from_numpy(positions)
    while True:
        end = start + ids.shape[1]
        order, slots, flags = torch.arange(start, end), torch.arange(end), torch.zeros(end, dtype=torch.bool)
        rows = feature_rows(ids, TOKENS.image_patch)
        logits, new = decoder(ids, features, rows, order, slots, flags, cache, rope_positions=turn)
        cache = grown_cache(cache, new)
        tokens.append(int(logits[0].argmax()))
        if len(tokens) == ANSWER:
            return tokens
        ids, start, turn = torch.tensor([tokens[-1:]]), end, torch.full((3, 1), following)
        following += 1


@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_answers_equal(theirs: Qwen3VLReference, saved: Path, seed: int) -> None:
    ours, patches = ours_of(saved, GRID), video_patches(2, seed=seed)
    token_ids = video_token_ids([GRID.groups] * 2, seed)
    wanted = theirs.greedy(token_ids, patches, GRID, ANSWER)
    assert len(set(wanted)) > 2, "the toy must say more than one word"
    with torch.no_grad():
        features = run_vision_dense(ours, patches)
    positions, following = rope_positions(token_ids[0].numpy(), TOKENS, whole(2, GRID), GRID)
    assert greedy(ours.decoder, token_ids, features, positions, following) == wanted


def test_a_tied_head_is_read_once(tmp_path: Path) -> None:
    tied = reference_model(tied=True)
    tied.save(tmp_path)
    config = model_config()
    config = replace(config, decoder=replace(config.decoder, tied_embedding=True))
    checkpoint = open_checkpoint(tmp_path, config)
    assert "decoder.head.weight" not in checkpoint.tensors
    ours = Model(config).eval()
    load_into(ours, checkpoint)
    with torch.no_grad():
        patches, token_ids = video_patches(1), video_token_ids([GRID.groups])
        positions, _ = rope_positions(token_ids[0].numpy(), TOKENS, whole(1, GRID), GRID)
        got = logits_of(ours.decoder, token_ids, run_vision_dense(ours, patches), positions)
    torch.testing.assert_close(got, tied.logits(token_ids, patches, GRID), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
@torch.no_grad()
def test_odd_frames_are_filled_up_with_the_last_and_one_frame_is_doubled(saved: Path, count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (count, *GRID.size, 3), np.uint8)
    patches = patches_from_frames(frames, GRID)
    assert patches.shape == (-(-count // 2), GRID.patches, GRID.patch_values)
    filled = np.concatenate([frames, frames[-1:]])[: 2 * len(patches)]
    assert np.array_equal(patches, patches_from_frames(filled, GRID))
    features = run_vision_dense(ours_of(saved, GRID), torch.from_numpy(patches))
    assert features.shape == (len(patches) * GRID.groups, 4 * DECODER.width)


@pytest.mark.parametrize("kind", ["cosine", "random"])
@torch.no_grad()
def test_nothing_pruned_is_the_dense_model(theirs: Qwen3VLReference, saved: Path, kind: str) -> None:
    ours, patches = ours_of(saved, GRID, kind), video_patches(3)
    for packing in ("ragged", "ffd"):
        result = run_vision(ours, patches, prune_fraction=0.0, packing=packing, soft_bias=False)
        assert result.keep.all()
        wanted = torch.cat(theirs.features(patches, GRID), dim=1)
        torch.testing.assert_close(result.features, wanted, rtol=0, atol=1e-5)
