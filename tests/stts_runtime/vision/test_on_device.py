"""A clip scored, selected and encoded by engines alone: with engines played here, which know the host's plan."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bundle.manifest import EngineSettings, GraphEntry, Grid, Limits, Pruning
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine import HostMemory
from stts_runtime.errors import EngineError
from stts_runtime.timings import Timings
from stts_runtime.vision.on_device import runs_of_frames, vision_on_device
from stts_runtime.vision.plan import group_patches, kept_groups, select_groups


GRID = Grid(image_size=84, patch_size=14, pool=3)  # 36 patches and 4 groups a frame
WIDTH, D_MODEL = 2, TOY_MANIFEST.decoder.width
FRAMES = np.random.default_rng(0).integers(0, 255, (9, 84, 84, 3), np.uint8)
SCORES = np.random.default_rng(1).random((9, GRID.groups), np.float32)


def manifest_of(chunk):
    """What a bundle with plugins says, whose engines take `chunk` frames at once."""
    integers = {name: TensorSpec(name, "int64", (size,)) for name, size in (("order", "K"), ("cumulative_groups", "E"))}
    specs = (
        GraphSpec(
            "vision_score",
            (TensorSpec("previous", "float32", (GRID.groups, 1)),),
            (
                TensorSpec("hidden", "float32", ("T", GRID.patches, WIDTH)),
                TensorSpec("scores", "float32", ("T", GRID.groups)),
                TensorSpec("last", "float32", (GRID.groups, 1)),
            ),
            (Dim("T", 1, chunk, chunk),),
        ),
        GraphSpec("vision_select", (TensorSpec("kept", "int64", ("K",)),), tuple(integers.values()), ()),
        GraphSpec(
            "vision_encode",
            tuple(integers.values()),
            (TensorSpec("features", "float32", ("K", D_MODEL)),),
            (Dim("K", 1, GRID.groups, chunk * GRID.groups),),
        ),
    )
    return replace(
        TOY_MANIFEST,
        grid=GRID,
        limits=Limits(max_frames=16, max_tokens=512, chunk_frames=chunk),
        pruning=Pruning(0.5, "cosine", soft_bias=False, packing="ragged"),
        engine=EngineSettings("tensorrt", "cuda", "float32", prepack=False, ops="plugin"),
        graphs={spec.name: GraphEntry(f"{spec.name}.onnx", spec) for spec in specs},
    )


class Scorer:
    """Gives the scores it was made with; a frame's hidden state holds its number."""

    def __init__(self, scores):
        self.memory, self.scores, self.at = HostMemory(), scores, 0

    def run(self, inputs, outputs):
        count = len(inputs["patches"])
        outputs["scores"][:] = self.scores[self.at : self.at + count]
        outputs["hidden"][:] = (
            np.arange(GRID.patches)[None, :, None] + 100 * np.arange(self.at, self.at + count)[:, None, None]
        )
        outputs["last"][:] = 0
        self.at += count


class Selector:
    """Selects as the operator's contract says."""

    def __init__(self, prune):
        self.memory, self.prune = HostMemory(), prune

    def run(self, inputs, outputs):
        scores = inputs["scores"]
        assert inputs["kept"].shape == (kept_groups(GRID.groups, len(scores), self.prune),)
        if not np.isfinite(scores).all():
            outputs["order"][:] = -1
            outputs["cumulative_groups"][:] = 0
            outputs["cumulative_groups"][-1] = -1
            return
        keep = select_groups(scores, self.prune)
        outputs["order"][:] = np.flatnonzero(keep)
        outputs["cumulative_groups"][:] = np.append(0, np.cumsum(keep.sum(axis=1)))


class Encoder:
    """A feature is the sum of its group's patches; notes what each run was given."""

    def __init__(self):
        self.memory, self.runs = HostMemory(), []

    def run(self, inputs, outputs):
        order, ends, positions = inputs["order"], inputs["cumulative_groups"], inputs["positions"]
        self.runs.append((len(order), len(ends) - 1))
        if (order < 0).any() or ends[-1] != len(order):
            raise EngineError("graph 'vision_encode' failed: indices out of range")
        assert ends[0] == 0
        assert np.diff(ends).max() * GRID.pool**2 <= len(positions)
        np.testing.assert_array_equal(positions, np.arange(len(positions)))
        frame, group = np.divmod(order, GRID.groups)
        outputs["features"][:] = inputs["hidden"][frame[:, None], group_patches(GRID)[group]].sum(axis=(1, 2))[:, None]


def looked(chunk, prune, scores=SCORES, frames=FRAMES):
    """What the engines say of the clip, the encoder, and the timings."""
    encoder, timings = Encoder(), Timings()
    vision = vision_on_device(Scorer(scores), Selector(prune), encoder, frames, prune, manifest_of(chunk), timings)
    return vision, encoder, timings


@pytest.mark.parametrize("prune", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
def test_every_kept_group_gets_its_own_feature_whatever_the_runs(chunk, prune):
    vision, encoder, timings = looked(chunk, prune)
    keep = select_groups(SCORES, prune)
    frame, group = np.nonzero(keep)
    expected = (100 * frame[:, None] + group_patches(GRID)[group]).sum(axis=1) * WIDTH
    np.testing.assert_array_equal(vision.features, np.repeat(expected[:, None], D_MODEL, axis=1))
    np.testing.assert_array_equal(vision.keep, keep)
    np.testing.assert_array_equal(vision.scores, SCORES)
    assert sum(groups for groups, _ in encoder.runs) == timings.tokens["packed_patches"] / 9 == keep.sum()
    assert all(0 < groups <= chunk * GRID.groups for groups, _ in encoder.runs)


def test_a_clip_whose_kept_groups_fit_into_a_run_is_encoded_at_once_without_its_lengths():
    _, encoder, _ = looked(5, 0.5)
    assert encoder.runs == [(18, 9)]


def test_a_clip_of_one_frame_is_kept_whole():
    vision, encoder, _ = looked(3, 0.5, SCORES[:1], FRAMES[:1])
    assert vision.keep.all()
    assert encoder.runs == [(GRID.groups, 1)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk", [2, 9], ids=["several runs", "one run"])
def test_a_score_that_is_not_finite_is_told_with_its_frame(chunk, value):
    scores = SCORES.copy()
    scores[6, 2] = value
    with pytest.raises(EngineError, match="scores of frame 6 are not finite: the vision graph overflowed"):
        looked(chunk, 0.5, scores)


def test_lengths_that_do_not_add_up_are_told_where_the_host_reads_them(monkeypatch):
    select = Selector.run

    def miscount(self, inputs, outputs):
        select(self, inputs, outputs)
        outputs["cumulative_groups"][-1] -= 1

    monkeypatch.setattr(Selector, "run", miscount)
    with pytest.raises(EngineError, match="frames end at row 17 of 18: lengths do not add up"):
        looked(2, 0.5)


def test_another_failure_of_the_encoder_is_its_own(monkeypatch):
    def refuse(self, inputs, outputs):
        raise EngineError("out of memory")

    monkeypatch.setattr(Encoder, "run", refuse)
    with pytest.raises(EngineError, match="out of memory"):
        looked(9, 0.5)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(9, 30))
def test_runs_hold_all_groups_once_in_order_and_as_many_frames_as_fit(lengths, room):
    ends = np.append(0, np.cumsum(lengths))
    runs = list(runs_of_frames(ends, room))
    assert sum(int(ends[last] - ends[first]) for first, last in runs) == ends[-1]
    assert [first for first, _ in runs] == [0, *(last for _, last in runs)][: len(runs)]
    for first, last in runs:
        assert 0 < ends[last] - ends[first] <= room
        assert last == len(lengths) or ends[last + 1] - ends[first] > room
