"""What two scores of one clip keep of it, one beside the other."""

from dataclasses import replace

import numpy as np

from stts_export.quantise.choice import roundings
from stts_export.recipe.read import read_model_recipe
from stts_export.verify.kept import compared, rounds_scores, scored_blocks
from stts_export.verify.verify_bundle import with_way_out
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.verify.compare import failure
from stts_runtime.verify.tolerances import KEPT


NANO = read_model_recipe("nano").config


def scores(frames=5, groups=10):
    return np.random.default_rng(0).permutation(frames * groups).reshape(frames, groups).astype(np.float32)


def test_the_same_order_keeps_the_same_groups_whatever_the_scores():
    found = compared(scores(), np.sqrt(scores()), 0.5, NANO)
    assert (found.verdict, found.overlap) == ("passed", 1.0)
    assert found.name == "keep set, 50% dropped"


def test_overlap_is_of_later_frames_what_both_keep_over_what_either_keeps():
    own = scores()
    later = np.sort(own[1:].ravel())
    cut = len(later) - 15  # 25 of 50 are dropped, of the 40 behind the first frame
    swapped = np.where(own == later[cut], later[0], np.where(own == later[0], later[cut], own))
    swapped[0] = own[0]
    found = compared(own, swapped, 0.5, NANO)
    assert found.overlap == 14 / 16
    assert found.failed == (found.overlap < KEPT)
    assert "87.5% of the groups that either keeps" in found.message


def test_other_groups_are_a_failure_that_says_what_to_leave_in_floats():
    found = compared(scores(), -scores(), 0.75, NANO)
    assert found.failed
    assert found.message.endswith("--keep-float vision_tower.blocks.0.* vision_tower.blocks.1.*")


def test_a_single_frame_stays_whole():
    assert compared(scores(1), -scores(1), 0.5, NANO).overlap == 1.0


def test_only_what_makes_scores_is_asked_about():
    assert rounds_scores(NANO, roundings(NANO, None, "int8"))
    assert not rounds_scores(NANO, roundings(NANO, None, "int8", scored_blocks(NANO)))
    assert not rounds_scores(replace(NANO, scorer=replace(NANO.scorer, kind="none")), roundings(NANO, None, "int8"))


def test_a_rounded_tower_that_fails_end_to_end_is_told_what_would_do():
    failing = failure("features", "error 0.12 of the largest magnitude, allowed 0.1")
    engine = EngineSettings("onnxruntime", "cpu", "float32", prepack=True, weights="int4", tower_weights="int8")
    assert with_way_out(failing, engine).message.endswith("; leave the tower in floats with --tower-weights float")
    assert with_way_out(replace(failing, name="first logits"), engine).message == failing.message
    assert with_way_out(failing, replace(engine, tower_weights="float")) == failing
