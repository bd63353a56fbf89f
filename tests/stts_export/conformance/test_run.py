import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stts_export.checkpoint.layouts import vision_names
from stts_export.conformance.case import FILES, case_folders
from stts_export.conformance.run import GRADIENT_TOLERANCE, VALUE_TOLERANCE, run_case, run_cases
from stts_export.models.model import VisionModel
from stts_export.models.vision import run_vision
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.errors import SttsError, UsageError


RECORDED = Path(__file__).parents[2] / "data" / "conformance"
GRID = Grid(image_size=126, patch_size=14, pool=3)
TOWER = TowerConfig(width=24, heads=3, mlp_width=40, blocks=8, taps=(7, 5, 6))


def write_case(folder, videos=(3, 2), prune_fraction=0.5):
    """Write a case as our own model computes it: says nothing about the authors, but has any size we like."""
    torch.manual_seed(0)
    model = VisionModel(TOWER, ScorerConfig("learned", True), GRID, projector_width=32, output_width=20)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    frames = np.random.default_rng(0).integers(0, 256, (sum(videos), 126, 126, 3), dtype=np.uint8)
    result = run_vision(
        model, torch.from_numpy(patches_from_frames(frames, GRID)), videos, prune_fraction, keep_hidden=(3, 4, 5, 6, 7)
    )
    plan = result.plan
    probe = torch.randn(result.features.shape)
    kept = torch.zeros(sum(videos) * GRID.patches, dtype=torch.uint8)
    kept[torch.from_numpy(plan.gather.reshape(-1)[plan.readout])] = 1
    running = torch.zeros_like(kept)
    locations = torch.zeros(len(kept), 2, dtype=torch.int32)
    for b, slots in enumerate(plan.segments):
        for slot in np.flatnonzero(slots >= 0):
            locations[plan.gather[b, slot]] = torch.tensor([b, slot], dtype=torch.int32)
            running[plan.gather[b, slot]] = 1
    weight = model.scorer.mlp.first.weight
    loss = (result.features * probe).sum() / len(probe) + result.aux_loss
    names = vision_names(dict(model.named_parameters()))
    shape = (sum(videos), GRID.patches)
    expected = {
        "scores": result.scores,
        "keep_groups": result.keep.to(torch.uint8),
        "keep_patches": kept.reshape(shape),
        "soft_bias": result.soft_bias,
        "packed_bins": torch.tensor([len(plan.gather)]),
        "new_locs": locations.reshape(*shape, 2),
        "refill_patches": (running - kept).reshape(shape),
        "segment_mask_rows": torch.tensor(
            [[(row == owner).sum() if owner >= 0 else 0 for owner in row] for row in plan.segments], dtype=torch.int32
        ),
        **{f"hidden_{block}": hidden[:, ::7] for block, hidden in result.hidden.items()},
        "image_features": result.features,
        "aux_loss": result.aux_loss.reshape(1),
        "probe": probe,
        f"grad.{names['scorer.mlp.first.weight']}": torch.autograd.grad(loss, weight)[0],
    }
    config = {"frames": sum(videos), "videos": list(videos), "prune_fraction": prune_fraction, "prune_at": 3}
    config |= {"vit_layers_built": 8, "vit_layers_declared": 10, "taps": [-3, 5, -4], "vit_dim": 24, "vit_heads": 3}
    config |= {"vit_mlp": 40, "patch": 14, "image": 126, "pool": 3, "d_model": 20, "projector_hidden": 32}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | {"aux_coefficient": 0.5, "dtype": "float32"}))
    np.savez(folder / "frames.npz", frames=frames)
    save_file({names[name]: p.detach() for name, p in model.named_parameters()}, folder / "weights.safetensors")
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in expected.items()}, folder / "expected.safetensors"
    )
    return folder


@pytest.fixture
def case(tmp_path):
    return write_case(tmp_path / "cases" / "small")


def change_tensor(path, name, change):
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path)


def failing(result):
    return {one.name for one in result.comparisons if not one.ok}


@pytest.mark.slow
@pytest.mark.parametrize("folder", case_folders(RECORDED), ids=lambda folder: folder.name)
def test_a_recorded_case_of_the_authors_code_holds(folder):
    result = run_case(folder)
    assert result.ok, result.message
    assert result.message == ""
    assert {one.allowed for one in result.comparisons} == {0.0, VALUE_TOLERANCE, GRADIENT_TOLERANCE}
    recorded = load_file(folder / "expected.safetensors")
    assert {one.name for one in result.comparisons} == recorded.keys() - {"probe"}


def test_all_six_recorded_cases_are_here():
    assert len(case_folders(RECORDED)) == 6


@pytest.mark.parametrize("fraction", [0.0, 0.35, 0.95])
@pytest.mark.parametrize("videos", [(1,), (5,), (1, 2, 1)])
def test_other_lengths_fractions_and_taps_are_followed(tmp_path, videos, fraction):
    result = run_case(write_case(tmp_path / "case", videos, fraction))
    assert result.ok, result.message


def test_a_changed_weight_behind_the_prune_fails_what_it_reaches_and_nothing_before(case):
    change_tensor(case / "weights.safetensors", "image_projector.w2.weight", lambda w: w * 1.001)
    result = run_case(case)
    assert not result.ok
    assert {name for name in failing(result) if not name.startswith("grad.")} == {"image_features"}
    assert result.message.startswith("image_features departs first")


def test_a_changed_block_fails_from_its_own_output_on(case):
    name = "image_vit.transformer.resblocks.5.feed_forward.w2.bias"
    change_tensor(case / "weights.safetensors", name, lambda w: w + 1e-2)
    failed = failing(run_case(case))
    assert {"hidden_5", "hidden_6", "hidden_7", "image_features"} <= failed
    assert not failed & {"scores", "hidden_3", "hidden_4", "keep_groups"}


def test_a_scorer_that_keeps_others_fails_without_comparing_what_does_not_fit(case):
    name = "image_vit.transformer.temporal_token_scorer.mlp.w3.weight"
    change_tensor(case / "weights.safetensors", name, lambda w: -w)
    failed = failing(run_case(case))
    assert {"scores", "keep_groups", "new_locs", "image_features"} <= failed


def test_another_number_of_kept_groups_has_infinite_error_in_features_and_gradients(case):
    config = json.loads((case / "config.json").read_text())
    (case / "config.json").write_text(json.dumps(config | {"prune_fraction": 0.2}))
    found = {one.name: one for one in run_case(case).comparisons}
    assert found["image_features"].error == float("inf")
    assert all(one.error == float("inf") for name, one in found.items() if name.startswith("grad."))
    assert found["scores"].ok


def test_a_gradient_that_loses_a_term_is_noticed(case):
    name = next(name for name in load_file(case / "expected.safetensors") if name.startswith("grad."))
    change_tensor(case / "expected.safetensors", name, lambda gradient: gradient * (1 - 1e-3))
    assert failing(run_case(case)) == {name}


def test_a_value_that_is_not_a_number_fails(case):
    change_tensor(case / "expected.safetensors", "scores", lambda scores: scores * float("nan"))
    assert failing(run_case(case)) == {"scores"}


def test_a_weight_that_nothing_reads_is_mentioned(case):
    tensors = load_file(case / "weights.safetensors")
    save_file(tensors | {"image_vit.class_embedding": torch.zeros(3)}, case / "weights.safetensors")
    result = run_case(case)
    assert result.ok
    assert "image_vit.class_embedding" in result.message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(case, name):
    (case / name).unlink()
    with pytest.raises(SttsError, match=rf"{name}: missing"):
        run_case(case)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_truncated_file_is_named(case, name, share):
    data = (case / name).read_bytes()
    (case / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SttsError, match=name):
        run_case(case)


@pytest.mark.parametrize("name", ["scores", "probe", "hidden_6", "segment_mask_rows"])
def test_a_missing_recorded_tensor_is_named(case, name):
    tensors = load_file(case / "expected.safetensors")
    del tensors[name]
    save_file(tensors, case / "expected.safetensors")
    with pytest.raises(SttsError, match=rf"expected.safetensors: no tensor {name}"):
        run_case(case)


def test_a_recorded_tensor_that_has_no_counterpart_is_named(case):
    tensors = load_file(case / "expected.safetensors")
    save_file(tensors | {"grad.image_vit.nothing": torch.zeros(3)}, case / "expected.safetensors")
    with pytest.raises(SttsError, match=r"expected.safetensors: .*grad.image_vit.nothing"):
        run_case(case)


def test_a_missing_or_misshapen_weight_is_named(case):
    path, name = case / "weights.safetensors", "image_vit.transformer.resblocks.2.attention.wq.weight"
    change_tensor(path, name, lambda w: w[:-1].clone())
    with pytest.raises(SttsError, match=rf"weights.safetensors: {name} has shape \[23, 24\]"):
        run_case(case)
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(SttsError, match=rf"weights.safetensors: no tensor {name}"):
        run_case(case)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("prune_fraction", 1.0, r"\[0, 1\)"),
        ("vit_dim", "24", "vit_dim: wanted a whole number, got '24'"),
        ("videos", [3, 3], r"videos is \(3, 3\); wanted frame counts that add up to frames = 5"),
        ("videos", [5, 0], r"videos is \(5, 0\); wanted a list of frame counts, each above 0"),
        ("videos", [], "frame counts"),
        ("taps", [-9], r"tower\.taps is \(1,\); wanted blocks from 5"),
        ("taps", [], r"tower\.taps is \(\); wanted at least one block"),
        ("vit_heads", 5, r"tower\.heads is 5; wanted a divisor of tower\.width = 24"),
        ("vit_mlp", 0, r"tower\.mlp_width is 0; wanted a number above 0"),
        ("d_model", 0, "d_model is 0; wanted a number above 0"),
        ("frames", None, "frames: wanted a whole number, got None"),
        ("pool", 2, r"grid\.image_size is 126; wanted a multiple of patch_size \* pool"),
        ("prune_at_block", 3, "prune_at_block: unknown key; did you mean 'prune_at'"),
    ],
)
def test_an_impossible_size_is_named(case, key, value, message):
    config = json.loads((case / "config.json").read_text())
    (case / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(SttsError, match=rf"config.json: .*{message}"):
        run_case(case)


def test_a_missing_size_is_named(case):
    config = json.loads((case / "config.json").read_text())
    del config["taps"]
    (case / "config.json").write_text(json.dumps(config))
    with pytest.raises(SttsError, match=r"config.json: taps: missing; wanted a list, each item a whole number"):
        run_case(case)


def test_frames_of_another_size_are_named(case):
    np.savez(case / "frames.npz", frames=np.zeros((5, 112, 126, 3), dtype=np.uint8))
    with pytest.raises(SttsError, match=r"frames.npz: .*\[5, 112, 126, 3\]"):
        run_case(case)


def test_a_malformed_case_fails_and_the_others_still_run(case):
    broken = case.parent / "broken"
    shutil.copytree(case, broken)
    (broken / "weights.safetensors").unlink()
    results = list(run_cases(case.parent))
    assert [(result.name, result.ok) for result in results] == [("broken", False), ("small", True)]
    assert "weights.safetensors" in results[0].message


def test_a_case_folder_itself_may_be_given(case):
    assert [result.name for result in run_cases(case)] == ["small"]


def test_a_directory_without_a_case_is_refused_at_once(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no conformance case"):
        run_cases(tmp_path)
    with pytest.raises(UsageError, match="no such directory"):
        run_cases(tmp_path / "nowhere")
