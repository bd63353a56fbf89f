"""The dense model against transformers, weights carried over through a saved checkpoint and the real name maps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.decoding import all_logits, grown_cache
from reference.molmo2 import Reference, image_prompt, reference_model, video_patches, video_token_ids, vision_flags
from reference.molmo2_sizes import CROPPING, GRID, KINDS, TOKENS, model_config
from torch import Tensor

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.open import open_checkpoint
from stts_export.models.decoder import feature_rows
from stts_export.models.model import Model
from stts_export.models.vision import run_vision_dense
from stts_export.parts.vision_image import vision_image_part
from stts_runtime.clip.crops import cut_image
from stts_runtime.clip.frames import patches_from_frames


ANSWER = 12


@dataclass(frozen=True)
class Pair:
    theirs: Reference
    ours: Model


def carried_over(kind: str, theirs: Reference, path: Path, original: bool) -> Model:
    """Save the reference and load it as ours, in transformers' own layout or in that of the released files."""
    theirs.save(path, original)
    checkpoint = open_checkpoint(path, model_config(kind))
    assert checkpoint.layout == ("remote_code" if original else "native")
    ours = Model(model_config(kind)).eval()
    load_into(ours, checkpoint)
    return ours


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    theirs = reference_model(request.param)
    return Pair(theirs, carried_over(request.param, theirs, tmp_path_factory.mktemp(request.param), original=False))


@pytest.mark.parametrize("kind", ["qwen3", "olmo3"])
def test_the_released_layout_carries_the_same_weights_over(kind: str, tmp_path: Path) -> None:
    theirs = reference_model(kind)
    native, released = (
        carried_over(kind, theirs, tmp_path / str(original), original).state_dict() for original in (False, True)
    )
    assert native.keys() == released.keys()
    assert [name for name in native if not torch.equal(native[name], released[name])] == []


@torch.no_grad()
def greedy(model: Model, token_ids: Tensor, features: Tensor, count: int) -> list[int]:
    decoder, flags, start = model.decoder, vision_flags(token_ids), 0
    cache, tokens, ids = decoder.empty_cache(), [], token_ids
    while True:
        end = start + ids.shape[1]
        rows = feature_rows(ids, TOKENS.image_patch)
        logits, new = decoder(ids, features, rows, torch.arange(start, end), torch.arange(end), flags, cache)
        cache = grown_cache(cache, new)
        tokens.append(int(logits[0].argmax()))
        if len(tokens) == count:
            return tokens
        ids, start, flags = torch.tensor([tokens[-1:]]), end, torch.cat((flags, torch.tensor([False])))


@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_image_features_equal(pair: Pair, frames: int) -> None:
    patches = video_patches(frames)
    wanted = pair.theirs.features(patches)
    assert wanted.std() > 0.03
    torch.testing.assert_close(run_vision_dense(pair.ours, patches), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_logits_of_every_position_equal(pair: Pair, frames: int) -> None:
    token_ids, patches = video_token_ids(frames, seed=frames), video_patches(frames)
    features = run_vision_dense(pair.ours, patches)
    wanted = pair.theirs.logits(token_ids, patches)
    got = all_logits(pair.ours.decoder, token_ids, features, vision_flags(token_ids))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
    causal = all_logits(pair.ours.decoder, token_ids, features, torch.zeros_like(token_ids[0], dtype=torch.bool))
    assert (causal - wanted).abs().max() > 0.1, (
        "the toy must tell vision tokens that see each other from those that do not"
    )


def test_greedy_answers_equal(pair: Pair) -> None:
    for seed in range(2):
        token_ids, patches = video_token_ids(2, seed), video_patches(2, seed)
        wanted = pair.theirs.greedy(token_ids, patches, ANSWER)
        assert len(set(wanted)) > 2, "the toy must say more than one word"
        with torch.no_grad():
            features = run_vision_dense(pair.ours, patches)
        assert greedy(pair.ours, token_ids, features, ANSWER) == wanted


PICTURES = {
    "one": [(200, 330)],
    "several": [(126, 126), (90, 400), (1, 1)],
}


@pytest.fixture(params=PICTURES)
def pictures(request: pytest.FixtureRequest) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in PICTURES[request.param]]


def image_features(model: Model, pictures: list[np.ndarray]) -> Tensor:
    """What our tower makes of pictures that the runtime cut."""
    part = vision_image_part(model, model.config, CROPPING).module
    features = []
    for picture in pictures:
        cut = cut_image(picture, GRID, CROPPING)
        features.append(part(torch.from_numpy(patches_from_frames(cut.crops, GRID)), torch.from_numpy(cut.readout)))
    return torch.cat(features)


@pytest.mark.parametrize(("kind", "seed"), [("qwen3", 2), ("olmo3", 1)])  # such as do not say one word for ever
@torch.no_grad()
def test_images_have_the_features_logits_and_greedy_answers_of_transformers(
    kind: str, seed: int, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    theirs = reference_model(kind, seed)
    ours = carried_over(kind, theirs, tmp_path, original=False)
    prompt = image_prompt(pictures)
    ids, flags = prompt.token_ids, vision_flags(prompt.token_ids)
    features, wanted = image_features(ours, pictures), theirs.image_features(prompt)
    assert wanted.std() > 0.03
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-5)

    logits = theirs.image_logits(prompt)
    torch.testing.assert_close(all_logits(ours.decoder, ids, features, flags), logits, rtol=0, atol=1e-4)
    others = torch.isin(ids[0], torch.tensor([TOKENS.image_patch]))
    without_markers = all_logits(ours.decoder, ids, features, others)
    assert (without_markers - logits).abs().max() > 0.01, "the toy must tell whether markers see what follows them"

    said = []
    for words in range(2):
        prompt = image_prompt(pictures, words)
        said += theirs.image_greedy(prompt, ANSWER)
        assert greedy(ours, prompt.token_ids, features, ANSWER) == said[-ANSWER:]
    assert len(set(said)) > 2, "the toy must say more than one word"


@torch.no_grad()
def test_logits_depend_on_the_picture(pair: Pair) -> None:
    token_ids = video_token_ids(2)
    flags = vision_flags(token_ids)
    first, second = (
        all_logits(pair.ours.decoder, token_ids, run_vision_dense(pair.ours, video_patches(2, seed)), flags)
        for seed in (0, 1)
    )
    before = int((token_ids[0] == TOKENS.frame_start).nonzero()[0])
    assert torch.equal(first[:before], second[:before])
    assert (first[before:] - second[before:]).abs().max() > 1e-2
