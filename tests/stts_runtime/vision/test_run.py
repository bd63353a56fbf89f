"""Vision engines driven in chunks: with engines played here, and with a toy bundle's against the torch model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.toy_bundle import KINDS, toy_config, toy_frames, toy_model
from reference.toy_manifest import TOY_MANIFEST

from stts_export.models.vision import run_vision, run_vision_dense
from stts_runtime.bundle.manifest import GraphEntry, Grid, Limits, Pruning
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.engine import HostMemory
from stts_runtime.session import load
from stts_runtime.timings import Timings
from stts_runtime.vision.plan import pack_ffd, pack_ragged
from stts_runtime.vision.run import dense_vision, encode_plan, score_frames


GRID = Grid(image_size=84, patch_size=14, pool=3)
WIDTH, D_MODEL = 2, TOY_MANIFEST.decoder.width
SCORE_SPEC = GraphSpec(
    "vision_score",
    (
        TensorSpec("patches", "float32", ("T", GRID.patches, 588)),
        TensorSpec("previous", "float32", (GRID.groups, 1)),
        TensorSpec("gate", "float32", ("T",)),
    ),
    (
        TensorSpec("hidden", "float32", ("T", GRID.patches, WIDTH)),
        TensorSpec("scores", "float32", ("T", GRID.groups)),
        TensorSpec("last", "float32", (GRID.groups, 1)),
    ),
    (Dim("T", 1, 3, 3),),
)
FEATURES = TensorSpec("features", "float32", ("K", D_MODEL))
SPECS = (
    SCORE_SPEC,
    GraphSpec("vision_encode", (), (FEATURES,), (Dim("K", 1, 3, 99),)),
    GraphSpec("vision_dense", (), (FEATURES,), (Dim("K", 1, 3, 99),)),
)


def manifest_of(chunk, packing="ffd"):
    return replace(
        TOY_MANIFEST,
        grid=GRID,
        limits=Limits(max_frames=16, max_tokens=512, chunk_frames=chunk),
        pruning=Pruning(0.5, "cosine", soft_bias=True, packing=packing),
        graphs={spec.name: GraphEntry(f"{spec.name}.onnx", spec) for spec in SPECS},
    )


class CountingScorer:
    """Scores a frame by how many came before it, which it knows from the state alone."""

    def __init__(self):
        self.memory, self.chunks, self.gates = HostMemory(), [], []

    def run(self, inputs, outputs):
        count = len(inputs["patches"])
        numbers = inputs["previous"][0, 0] + np.arange(count)
        self.chunks.append(count)
        self.gates += inputs["gate"].tolist()
        outputs["hidden"][:] = inputs["patches"].mean(axis=(1, 2))[:, None, None]
        outputs["scores"][:] = numbers[:, None]
        outputs["last"][:] = numbers[-1] + 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 9])
def test_the_scorers_state_goes_from_chunk_to_chunk_and_only_the_first_frame_is_gated_off(chunk):
    frames = np.random.default_rng(0).integers(0, 255, (7, 84, 84, 3), np.uint8)
    engine = CountingScorer()
    hidden, scores = score_frames(engine, frames, manifest_of(chunk), Timings())
    assert scores[:, 0].tolist() == list(range(7))
    assert engine.gates == [0, 1, 1, 1, 1, 1, 1]
    assert max(engine.chunks) <= chunk
    assert len(engine.chunks) == -(-7 // chunk)
    expected = patches_from_frames(frames, GRID).mean(axis=(1, 2))
    np.testing.assert_allclose(hidden[:, 0, 0], expected, rtol=1e-6)


class TellingEncoder:
    """A feature is the sum of its group's patches, looked up as the plan says."""

    def __init__(self):
        self.memory, self.pieces = HostMemory(), []

    def run(self, inputs, outputs):
        flat = inputs["hidden"].reshape(-1, WIDTH)
        packed = flat[inputs["gather"].reshape(-1)]
        self.pieces.append(len(inputs.get("segments", inputs["gather"])))
        outputs["features"][:] = packed[inputs["readout"]].sum(axis=(1, 2))[:, None]


@pytest.mark.parametrize("chunk", [1, 2, 3, 20])
@pytest.mark.parametrize(("packing", "pack"), [("ffd", pack_ffd), ("ragged", pack_ragged)])
def test_every_kept_group_gets_its_own_feature_whatever_the_chunks(packing, pack, chunk):
    rng = np.random.default_rng(1)
    keep = rng.random((9, GRID.groups)) < 0.4
    keep[0], keep[5] = True, False
    hidden = rng.standard_normal((9, GRID.patches, WIDTH)).astype(np.float32)
    side = GRID.group_rows
    by_group = hidden.sum(axis=2).reshape(9, side, 3, side, 3).sum(axis=(2, 4)).reshape(9, GRID.groups)
    engine, timings = TellingEncoder(), Timings()
    plan = pack(keep, GRID)
    features = encode_plan(engine, hidden, plan, manifest_of(chunk, packing), timings)
    assert features.shape == (keep.sum(), D_MODEL)
    np.testing.assert_allclose(features[:, 0], by_group[keep], rtol=1e-5, atol=1e-5)
    assert timings.tokens["packed_patches"] == plan.gather.size
    if packing == "ffd":
        assert max(engine.pieces) <= chunk


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_dense_features_lie_frame_after_frame(chunk):
    class Means:
        memory = HostMemory()

        def run(self, inputs, outputs):
            means = inputs["patches"].mean(axis=(1, 2))
            outputs["features"][:] = np.repeat(means, GRID.groups)[:, None]

    frames = np.random.default_rng(0).integers(0, 255, (4, 84, 84, 3), np.uint8)
    vision = dense_vision(Means(), frames, manifest_of(chunk), Timings())
    means = patches_from_frames(frames, GRID).mean(axis=(1, 2))
    np.testing.assert_allclose(vision.features[:, 0], np.repeat(means, GRID.groups), rtol=1e-6)
    assert vision.keep.all()
    assert (vision.scores, vision.plan) == (None, None)


@pytest.mark.parametrize("prune", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
@pytest.mark.parametrize("kind", ["ffd", "ragged"])
def test_a_bundle_sees_what_the_torch_model_sees(toy_bundle, kind, frames, prune):
    decoder, scorer, packing = KINDS[kind]
    config = toy_config(decoder, scorer)
    clip = toy_frames(frames)
    patches = torch.from_numpy(patches_from_frames(clip, config.grid))
    with torch.inference_mode():
        expected = run_vision(
            toy_model(config), patches, [frames], prune, packing=packing, soft_bias=config.scorer.soft_bias
        )
    with load(toy_bundle(kind)) as session:
        vision = session.vision(session.read(clip), prune)
    np.testing.assert_allclose(vision.scores, expected.scores.numpy(), atol=1e-5)
    np.testing.assert_array_equal(vision.keep, np.asarray(expected.keep))
    scale = float(expected.features.abs().max())
    np.testing.assert_allclose(vision.features / scale, expected.features.numpy() / scale, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_run_dense_sees_what_the_torch_model_sees(toy_bundle, kind):
    decoder, scorer, _ = KINDS[kind]
    config = toy_config(decoder, scorer)
    clip = toy_frames(5)
    patches = torch.from_numpy(patches_from_frames(clip, config.grid))
    with torch.inference_mode():
        expected = run_vision_dense(toy_model(config), patches)
    with load(toy_bundle(kind)) as session:
        vision = session.vision(session.read(clip), 0.0)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(vision.features / scale, expected.numpy() / scale, atol=2e-5)
