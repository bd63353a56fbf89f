"""The encoding and the dense part in their engines equal torch, for plans of every edge."""

import numpy as np
import pytest
from reference.molmo2_sizes import GRID
from reference.toy_bundle import LIMITS, TOWER
from reference.toy_engine import part_pair

from stts_runtime.vision.plan import pack_ffd, pack_ragged
from stts_runtime.vision.run import encode_inputs


PACK = {"ffd": pack_ffd, "ragged": pack_ragged}


def keeps():
    """Name -> bool [T, G], of as many frames as the part is given at once."""
    rng = np.random.default_rng(0)
    one = np.zeros((1, GRID.groups), bool)
    one[0, 4] = True
    empty = rng.random((LIMITS.chunk_frames, GRID.groups)) < 0.5
    empty[[0, 2]] = False
    return {
        "one group of one frame": one,
        "one whole frame": np.ones((1, GRID.groups), bool),
        "everything": np.ones((LIMITS.chunk_frames, GRID.groups), bool),
        "half": rng.random((LIMITS.chunk_frames, GRID.groups)) < 0.5,
        "frames with nothing kept": empty,
    }


@pytest.fixture(params=PACK, scope="module")
def pair(request, toy_bundle):
    return part_pair(toy_bundle, request.param, "vision_encode")


@pytest.mark.parametrize("keep", keeps().values(), ids=keeps())
def test_the_engine_equals_torch_for_whole_plans_and_for_chunks_of_them(pair, keep):
    packing = "ffd" if "segments" in {tensor.name for tensor in pair.part.spec.inputs} else "ragged"
    plan = PACK[packing](keep, GRID)
    hidden = np.random.default_rng(1).standard_normal((len(keep), GRID.patches, TOWER.width)).astype(np.float32)
    whole = pair.check({"hidden": hidden, **encode_inputs(plan)})["features"]
    assert len(whole) == keep.sum()
    pieces = len(plan.gather) if packing == "ffd" else len(keep)
    for chunk in (1, 2):
        joined = np.full_like(whole, np.nan)
        for first in range(0, pieces, chunk):
            part, rows = plan.chunk(first, min(first + chunk, pieces))
            if len(rows):
                inputs = {"hidden": hidden, **encode_inputs(part)}
                joined[rows] = pair.engine(inputs, {"features": whole[rows]})["features"]
        np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("kind", ["ffd", "dense"])
def test_the_dense_part_equals_torch(toy_bundle, kind, frames):
    patches = np.random.default_rng(2).uniform(-1, 1, (frames, GRID.patches, 588)).astype(np.float32)
    outputs = part_pair(toy_bundle, kind, "vision_dense").check({"patches": patches})
    assert outputs["features"].shape == (frames * GRID.groups, 32)
