"""A toy Qwen3-VL with plugins: frames of any sides, rows that lie by group and turn by place, a causal decoder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from reference.plugin_bundle import with_room_for_a_frame
from reference.qwen3_vl_bundle import GRID, clip, plugin_config
from reference.toy_bundle import toy_model

from stts_export.models.vision import run_vision
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.session import Session
from stts_runtime.vision.plan import select_groups


PARTS = {
    "vision_score": ["SttsGroupScore"],
    "vision_select": ["SttsSelectGroups"],
    "vision_encode": ["SttsPackTokens", "SttsRaggedAttention"],
    "vision_dense": [],
    "decoder": ["SttsVisionPrefixAttention"],
    "decoder_rows": [],
}


@pytest.fixture(scope="module")
def bundle(qwen_bundle: Callable[[str], Path]) -> Bundle:
    return open_bundle(qwen_bundle("plugin"), check=True)


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> dict[str, ir.Model]:
    return {part: ir.load(bundle.file(entry.file)) for part, entry in bundle.manifest.graphs.items()}


@pytest.fixture(scope="module")
def emulated(bundle: Bundle) -> Iterator[Bundle]:
    with cpu_emulation(bundle) as made:
        yield made


def test_its_graphs_hold_plugins_that_are_told_the_columns_of_a_frame(graphs: dict[str, ir.Model]) -> None:
    plugins = {part: [node for node in model.graph if node.domain] for part, model in graphs.items()}
    assert {part: sorted({node.op_type for node in nodes}) for part, nodes in plugins.items()} == PARTS
    for part, name in (("vision_score", "SttsGroupScore"), ("vision_encode", "SttsPackTokens")):
        (node,) = (node for node in plugins[part] if node.op_type == name)
        assert (node.attributes["pool"].as_int(), node.attributes["columns"].as_int()) == (2, GRID.columns)
    assert GRID.columns != GRID.rows


def test_places_are_looked_up_once_for_all_blocks(graphs: dict[str, ir.Model]) -> None:
    """Of each group its patches' places, of these cosine and sine: standard operators, whose tables are constants."""
    gathers = [node for node in graphs["vision_encode"].graph if node.op_type == "Gather"]
    assert len(gathers) == 3
    tables = [node.inputs[0] for node in gathers]
    assert sorted(list(table.shape.numpy()) for table in tables) == sorted(
        [[GRID.groups, GRID.pool**2], *[[GRID.patches, 8]] * 2]
    )


def test_it_was_verified_part_by_part_and_to_the_last_token(bundle: Bundle) -> None:
    report = json.loads((bundle.path / "verify/report.json").read_text())
    seen = {(result["part"], result["case"]): result["comparisons"] for result in report["results"]}
    assert {part for part, _ in seen} == {*PARTS, "end_to_end"}
    assert all(one["verdict"] in ("passed", "tied") for comparisons in seen.values() for one in comparisons)


@pytest.mark.parametrize("frames", [1, 5, 12])
@torch.no_grad()
def test_features_are_those_of_the_torch_model_whether_in_one_run_or_several(emulated: Bundle, frames: int) -> None:
    video = clip(frames, seed=frames)
    with Session(emulated) as session:
        whole = session.vision(session.read(video), 0.5)
    with Session(with_room_for_a_frame(emulated)) as session:
        pieces = session.vision(session.read(video), 0.5)
    np.testing.assert_array_equal(whole.keep, select_groups(whole.scores, 0.5))
    np.testing.assert_array_equal(pieces.keep, whole.keep)
    patches = torch.from_numpy(patches_from_frames(video, GRID))
    wanted = run_vision(toy_model(plugin_config()), patches, packing="ragged", soft_bias=False)
    np.testing.assert_array_equal(whole.keep, wanted.keep.numpy())
    assert whole.features.shape == tuple(wanted.features.shape) == (whole.keep.sum(), 4 * 32)
    scale = float(wanted.features.abs().max())
    for got in (whole, pieces):  # in half precision
        np.testing.assert_allclose(got.features, wanted.features.numpy(), rtol=0, atol=2e-2 * scale)
