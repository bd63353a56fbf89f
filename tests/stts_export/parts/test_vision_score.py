"""The scoring part in its engine equals torch, and chunks of frames equal the whole clip, for every scorer."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from reference.molmo2_sizes import GRID
from reference.toy_bundle import TOWER, toy_frames
from reference.toy_engine import part_pair

from stts_export.graph import Form, capture, lower
from stts_export.models.scorer import RandomScorer
from stts_export.parts import Part
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.clip.frames import patches_from_frames


FRAMES = 7


@pytest.fixture(params=["ffd", "ragged"], ids=["learned with soft bias", "cosine"], scope="module")
def pair(request, toy_bundle):
    return part_pair(toy_bundle, request.param, "vision_score")


def inputs_of(pair, first, last, previous=None):
    width = pair.part.spec.fixed_sizes("previous")
    gate = np.ones(FRAMES, np.float32)
    gate[0] = 0
    patches = patches_from_frames(toy_frames(FRAMES), GRID)
    previous = np.zeros(width, np.float32) if previous is None else previous
    return {"patches": patches[first:last], "previous": previous, "gate": gate[first:last]}


@pytest.mark.parametrize("frames", [1, 2, FRAMES])
def test_the_engine_equals_torch(pair, frames):
    outputs = pair.check(inputs_of(pair, 0, frames))
    assert outputs["scores"].shape == (frames, GRID.groups)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_with_carried_state_equal_the_whole_clip(pair, chunk):
    whole = pair.check(inputs_of(pair, 0, FRAMES))
    state, pieces = None, []
    for first in range(0, FRAMES, chunk):
        inputs = inputs_of(pair, first, min(first + chunk, FRAMES), state)
        pieces.append(pair.engine(inputs, pair.torch(inputs)))
        state = pieces[-1]["last"]
    for name in ("hidden", "scores"):
        joined = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_allclose(joined, whole[name], rtol=0, atol=1e-6 * np.abs(whole[name]).max(), err_msg=name)
    np.testing.assert_allclose(state, whole["last"], rtol=0, atol=1e-6)


def test_a_state_that_is_not_carried_changes_the_scores(pair):
    whole, alone = (pair.check(inputs_of(pair, first, 4))["scores"][-1] for first in (0, 3))
    assert np.abs(whole - alone).max() > 1e-3


def test_the_gate_decides_where_scores_bias_attention(toy_bundle):
    pair = part_pair(toy_bundle, "ffd", "vision_score")
    inputs = inputs_of(pair, 0, 3)
    gated = pair.check(inputs)["hidden"]
    plain = pair.check({**inputs, "gate": np.zeros(3, np.float32)})["hidden"]
    np.testing.assert_array_equal(gated[0], plain[0])
    assert np.abs(gated[1:] - plain[1:]).max() > 1e-4


@pytest.fixture(scope="module")
def random_scorer():
    """The baseline scorer, traced alone: it has no weights."""
    spec = GraphSpec(
        "random_scorer",
        (
            TensorSpec("hidden", "float32", ("T", GRID.patches, TOWER.width)),
            TensorSpec("previous", "float32", (GRID.groups, 1)),
        ),
        (TensorSpec("scores", "float32", ("T", GRID.groups)), TensorSpec("last", "float32", (GRID.groups, 1))),
        (Dim("T", 1, 4, 8),),
    )
    model = lower(capture(Part(spec, RandomScorer(GRID))), spec, Form())
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("chunk", [1, 2, 3, FRAMES])
def test_random_scores_are_the_same_numbers_in_torch_and_in_any_chunks(random_scorer, chunk):
    hidden, state = np.zeros((FRAMES, GRID.patches, TOWER.width), np.float32), np.zeros((GRID.groups, 1), np.float32)
    expected, last = RandomScorer(GRID)(torch.from_numpy(hidden), torch.from_numpy(state))
    pieces = []
    for first in range(0, FRAMES, chunk):
        scores, state = random_scorer.run(None, {"hidden": hidden[first : first + chunk], "previous": state})
        pieces.append(scores)
    np.testing.assert_array_equal(np.concatenate(pieces), expected.numpy())
    np.testing.assert_array_equal(state, last.numpy())
