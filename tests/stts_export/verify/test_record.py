import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.molmo2_sizes import GRID, model_config
from reference.toy_manifest import model_manifest

from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of
from stts_export.verify.clip import synthetic_clip
from stts_export.verify.cut import widest_gap
from stts_export.verify.record import clip_chunks, clip_frames, record_reference
from stts_export.verify.torch_part import loaded_weights
from stts_runtime.bundle.manifest import Limits, Pruning
from stts_runtime.errors import VerificationError
from stts_runtime.language.kv_cache import EMPTY_POSITION
from stts_runtime.verify.reference import FRAMES, KEEP, MAX_ROWS, REFERENCE, SCORES, kept_rows, write_reference
from stts_runtime.vision.plan import budget, select_groups


LIMITS = Limits(max_frames=8, max_tokens=512, chunk_frames=4)


def record(scorer="cosine", packing="ffd", fraction=0.5, limits=LIMITS):
    config = model_config("qwen3", scorer)
    return record_reference(
        config, random_checkpoint(config, 3), manifest_of(config, scorer, packing, fraction, limits)
    )


def manifest_of(config, scorer="cosine", packing="ffd", fraction=0.5, limits=LIMITS):
    return model_manifest(config, pruning=Pruning(fraction, scorer, False, packing), limits=limits)


@pytest.fixture(scope="module")
def reference():
    return record()


def test_the_clip_is_the_same_on_every_machine():
    clip = synthetic_clip(70, frames=3)
    assert clip.shape == (3, 70, 70, 3)
    digest = hashlib.sha256(clip.tobytes()).hexdigest()
    assert digest == "7593b2c7b47b569b52b7662fba77e056a5d630698f5f82d646af98c82076b4bf"


def test_in_the_clip_some_regions_stand_still_and_others_do_not():
    clip = synthetic_clip(126)
    moved = (clip[1:] != clip[:-1]).any(axis=-1).mean(axis=0)
    assert (moved == 0).mean() > 0.1
    assert (moved == 1).mean() > 0.2


def test_every_part_is_recorded_as_the_runtime_calls_it(reference):
    cases = [(case.part, case.name) for case in reference.info.cases]
    assert cases == [
        ("vision_score", "frames 0 to 2"),
        ("vision_score", "frames 3 to 5"),
        ("vision_encode", "bins 0 to 3"),
        ("vision_dense", "frames 0 to 2"),
        ("vision_image", "image"),
        ("decoder", "prefill"),
        ("decoder", "decode"),
    ]
    first, second = reference.cases("vision_score")
    assert not reference.arrays[first.inputs["previous"]].any()
    assert reference.arrays[second.inputs["previous"]].any()
    prefill, decode = reference.cases("decoder")
    assert reference.arrays[prefill.inputs["past_key_0"]].shape[2] == 0
    held = reference.arrays[decode.inputs["past_positions"]] != EMPTY_POSITION
    assert reference.arrays[decode.inputs["past_key_0"]].shape[2] == len(held)
    assert 0 < held.sum() < len(held), "an empty slot must be among what is verified"
    assert reference.arrays[decode.inputs["token_ids"]].tolist() == [[reference.info.answer.greedy[0]]]


def test_a_dense_model_is_recorded_without_scores_and_in_all_its_chunks():
    reference = record("none", "none", 0.0)
    assert [case.part for case in reference.info.cases] == ["vision_dense"] * 2 + ["vision_image"] + ["decoder"] * 2
    assert SCORES not in reference.arrays
    assert KEEP not in reference.arrays
    assert reference.info.answer.prune_fraction == 0.0


def test_values_come_in_data_flow_order_with_scores_before_the_block_that_follows_them(reference):
    names = [value.name for value in reference.cases("vision_score")[0].values]
    blocks = [f"vision_tower.blocks.{i}" for i in range(3)]
    assert names == [*blocks[:2], "scores", "last", blocks[2]]


def test_a_tap_that_is_an_output_is_recorded_once_under_both_names(reference):
    last = reference.cases("vision_score")[0].values[-1]
    assert (last.name, last.binding) == ("vision_tower.blocks.2", "hidden")
    assert all(value.binding == value.name for value in reference.cases("decoder")[0].values)


def test_the_keep_set_is_that_of_the_scores_and_the_fraction(reference):
    keep = select_groups(reference.arrays[SCORES], reference.info.answer.prune_fraction)
    np.testing.assert_array_equal(reference.arrays[KEEP], keep)


def test_few_rows_of_large_tensors_are_kept_and_all_of_small_ones(reference):
    case = reference.cases("vision_score")[0]
    for value in case.values:
        rows, kept = reference.rows(case, value)
        count = int(np.prod(value.shape[:-1]))
        assert len(rows) == len(kept) == min(count, MAX_ROWS)
        assert (rows[0], rows[-1]) == (0, count - 1)
    assert kept_rows(3).tolist() == [0, 1, 2]
    assert len(np.unique(kept_rows(65))) == MAX_ROWS


def test_the_same_model_gives_the_same_bytes(reference, tmp_path):
    for name, recorded in (("one", reference), ("two", record())):
        (tmp_path / name).mkdir()
        write_reference(tmp_path / name, recorded)
    assert (tmp_path / "one" / REFERENCE).read_bytes() == (tmp_path / "two" / REFERENCE).read_bytes()


def test_patches_are_made_of_the_frames_again(reference):
    case = reference.cases("vision_score")[1]
    config = model_config("qwen3", "cosine")
    spec = parts_of(weightless_model(config), config, LIMITS, "ffd")[0].spec
    inputs = reference.inputs(case, spec, GRID)
    assert inputs["patches"].shape == (3, GRID.patches, 588)
    assert len(reference.arrays[FRAMES]) == 6
    with pytest.raises(VerificationError, match="takes patches, previous, the reference holds"):
        reference.inputs(reference.cases("decoder")[0], spec, GRID)


def test_a_model_that_overflows_is_found_before_any_graph_is_blamed():
    config = model_config("qwen3", "cosine")
    checkpoint = random_checkpoint(config, 3)
    name = "vision_tower.blocks.1.mlp.down.bias"
    broken = replace(checkpoint.tensors[name], load=lambda: torch.full((config.tower.width,), torch.inf))
    checkpoint = Checkpoint("random", None, {**checkpoint.tensors, name: broken}, has_scorer=False)
    with pytest.raises(VerificationError, match=r"itself gives NaN .* at vision_tower\.blocks\.1 of vision_score"):
        record_reference(config, checkpoint, manifest_of(config))


def test_weights_are_in_memory_only_while_they_are_used():
    config = model_config("qwen3")
    part = parts_of(weightless_model(config), config, LIMITS, "none")[0]
    with loaded_weights(part, random_checkpoint(config, 3)):
        assert not any(parameter.is_meta for parameter in part.module.parameters())
    assert all(parameter.is_meta for parameter in part.module.parameters())


def test_the_clip_fits_the_limits_of_the_bundle():
    assert clip_frames(GRID, Limits(256, 8192, 8)) == 6
    assert clip_frames(GRID, Limits(2, 8192, 8)) == 2
    assert clip_frames(GRID, Limits(256, 200, 8)) == 2
    assert clip_frames(GRID, Limits(256, 10, 8)) == 1
    assert clip_chunks(6, Limits(256, 8192, 8)) == [(0, 3), (3, 6)]
    assert clip_chunks(5, Limits(256, 8192, 2)) == [(0, 2), (2, 4), (4, 5)]
    assert clip_chunks(1, Limits(1, 8192, 8)) == [(0, 1)]


def test_one_frame_is_recorded_too():
    reference = record(limits=Limits(max_frames=1, max_tokens=512, chunk_frames=4))
    assert reference.arrays[KEEP].all()
    assert reference.info.answer.score_gap is None


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_the_cut_lies_in_the_widest_gap_near_the_wanted_fraction(fraction):
    scores = np.random.default_rng(1).random((6, 9), np.float32)
    found, gap = widest_gap(scores, fraction)
    wanted, count = budget(9, 6, fraction), budget(9, 6, found)
    assert abs(count - wanted) <= max(1, 0.1 * wanted)
    if gap is None:
        assert count == 45  # all that can go does, whatever the scores
    else:
        ranked = np.sort(scores[1:].reshape(-1))
        assert gap == pytest.approx(ranked[count] - ranked[count - 1])
        assert select_groups(scores, found).sum() == 54 - count
