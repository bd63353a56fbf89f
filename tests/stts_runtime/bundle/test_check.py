"""No manifest ends in anything but an answer or a BundleError."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from reference.toy_manifest import TOY_MANIFEST, TOY_SPEC

from stts_runtime import load
from stts_runtime.bundle.check import check_graph, check_manifest, check_part
from stts_runtime.bundle.digest import sealed
from stts_runtime.bundle.open import MANIFEST, open_bundle
from stts_runtime.bundle.spec import Dim, TensorSpec
from stts_runtime.errors import BundleError


GRAPH = ({"token_ids": ("int64", (1, "S"))}, {"logits": ("float32", (1, 16))})


@pytest.mark.parametrize(
    ("record", "changes", "complaint"),
    [
        ("grid", {"image_size": 379}, r"grid\.image_size: wanted a multiple of patch_size x pool, 42, got 379"),
        (
            "grid",
            {"image_size": (378, 400)},
            r"grid\.image_size: wanted a multiple of patch_size x pool, 42, got \(378",
        ),
        ("grid", {"image_size": (378, 0)}, r"grid\.image_size: wanted a whole number from 1"),
        ("grid", {"frames": 0}, r"grid\.frames: wanted a whole number from 1"),
        ("grid", {"pool": 0}, r"grid\.pool: wanted a whole number from 1"),
        ("grid", {"resampling": "lanczos"}, r"grid\.resampling: wanted one of \('bilinear', 'bicubic'\); or upgrade"),
        ("decoder", {"rope_axes": 2}, r"decoder\.rope_axes: wanted 1 or 3, got 2"),
        ("decoder", {"feature_sets": 0}, r"decoder\.feature_sets: wanted a whole number from 1"),
        ("decoder", {"max_positions": 0}, r"decoder\.max_positions: wanted a whole number from 1 to 134217728"),
        ("pruning", {"fraction": 1.0}, r"pruning\.fraction: wanted a fraction in \[0, 1\)"),
        ("pruning", {"packing": "none"}, r"pruning\.packing: wanted one of \('ffd', 'ragged'\)"),
        ("tokens", {"stop": (1, 16)}, r"tokens\.stop\[1\]: wanted a token id below 16, got 16"),
        ("prompt", {"user": "no place"}, r"prompt\.user: wanted \{content\} once"),
        ("prompt", {"timestamp": "at "}, r"prompt\.timestamp: wanted \{time\} once"),
        (
            "frame_sampling",
            {"min_frames": 0},
            r"frame_sampling\.min_frames: wanted a whole number from 1 to max_frames",
        ),
        ("frame_sampling", {"max_fps": 0.0}, r"frame_sampling\.max_fps: wanted frames a second"),
        ("limits", {"max_frames": 10**12}, r"limits\.max_frames: wanted a whole number from 1 to"),
        ("engine", {"backend": "tensorflow"}, r"engine\.backend: wanted one of .* upgrade stts-runtime"),
        ("engine", {"backend": "tensorrt"}, r"engine\.device: wanted 'cuda'"),
        ("engine", {"ops": "plugins"}, r"engine\.ops: wanted one of \('portable', 'plugin'\); or upgrade stts-runtime"),
        ("engine", {"ops": "plugin"}, r"engine\.ops: wanted 'portable', as plugins are TensorRT's and pack end to end"),
        ("memory", {"cache": -1}, r"memory\.cache: wanted bytes"),
        ("target", {"bandwidth_gb_per_s": -1.0}, r"target\.bandwidth_gb_per_s: wanted a number, 0 or more"),
    ],
)
def test_an_entry_that_cannot_be_is_named(record, changes, complaint):
    changed = replace(TOY_MANIFEST, **{record: replace(getattr(TOY_MANIFEST, record), **changes)})
    with pytest.raises(BundleError, match=complaint):
        check_manifest(changed, "manifest.json")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "other"}, "the part's own, 'decoder'"),
        ({"outputs": ()}, "outputs: wanted at least one"),
        ({"outputs": (TensorSpec("token_ids", "float32", (1,)),)}, "a name of its own"),
        ({"outputs": (TensorSpec("logits", "float64", (1,)),)}, "dtype: wanted one of"),
        ({"outputs": (TensorSpec("logits", "float32", ("X",)),)}, "symbols of"),
        ({"dims": (Dim("S", 5, 4, 64),)}, "minimum <= optimum"),
        ({"step": (Dim("S", 1, 1, 65),)}, "inside its range"),
    ],
)
def test_a_spec_that_cannot_be_is_named(changes, complaint):
    entry = replace(TOY_MANIFEST.graphs["decoder"], spec=replace(TOY_SPEC, **changes))
    with pytest.raises(BundleError, match=complaint):
        check_manifest(replace(TOY_MANIFEST, graphs={"decoder": entry}), "manifest.json")


def test_a_part_is_held_to_what_the_runtime_feeds_it():
    with pytest.raises(BundleError, match="only this runtime knows 'feature_rows' among its inputs"):
        check_part(TOY_MANIFEST, "decoder")


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ({}, GRAPH[1], "only the manifest has an input 'token_ids'"),
        (GRAPH[0], {**GRAPH[1], "new_key_0": ("float32", (1,))}, "only the graph has an output 'new_key_0'"),
        ({"token_ids": ("int32", (1, "S"))}, GRAPH[1], r"'token_ids' is int64 \[1, 'S'\] there, int32"),
        (GRAPH[0], {"logits": ("float32", (1, 17))}, r"\[1, 17\] in the graph"),
        (GRAPH[0], {"logits": ("float32", (1, 16, 1))}, r"\[1, 16, 1\] in the graph"),
    ],
)
def test_a_graph_that_is_not_its_specs_is_told(inputs, outputs, complaint):
    check_graph(TOY_SPEC, *GRAPH)
    check_graph(TOY_SPEC, GRAPH[0], {"logits": ("float32", (None, None))})
    with pytest.raises(BundleError, match=complaint):
        check_graph(TOY_SPEC, inputs, outputs)


def test_a_manifest_that_drops_an_output_is_refused_and_no_memory_is_read_as_cache(toy_bundle, tmp_path):
    bundle = shutil.copytree(toy_bundle("ffd"), tmp_path / "toy.stts")
    data = json.loads((bundle / MANIFEST).read_bytes())
    del data["digest"]
    data["graphs"]["decoder"]["spec"]["outputs"].pop()
    (bundle / MANIFEST).write_bytes(sealed(data))
    open_bundle(bundle)
    with pytest.raises(BundleError, match=r"only this runtime knows 'new_\w+' among its outputs"):
        load(bundle)


@pytest.mark.slow
def test_no_change_of_any_entry_ends_in_anything_but_an_answer_or_a_bundle_error(toy_bundle, tmp_path):
    bundle = shutil.copytree(toy_bundle("ffd"), tmp_path / "toy.stts")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "reference.mutated", str(bundle), "23"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["counts"]["BundleError"] > 300
    assert found["counts"]["answered"] > 3
