"""What can be estimated, and what is refused in the words of the options."""

import re
from dataclasses import replace

import pytest
from reference.scenario import scenario

from stts_export.estimate.scenario import check_scenario, most_frames, scenario_of_build, with_scorer
from stts_runtime.bundle.manifest import EngineSettings, Limits, Pruning
from stts_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"precision": "float17"}, "--precision float17 is not one of target jetson-orin's. Did you mean float16?"),
        ({"target": "cpu", "precision": "float16"}, "--precision float16 is not one of target cpu's."),
        ({"backend": "tensorrt_rtx"}, "--backend tensorrt_rtx is not one of target jetson-orin's. Did you mean"),
        ({"packing": "bins"}, "--packing bins is unknown (known: ffd, ragged)"),
        ({"frames": 0}, "--frames is 0, wanted at least 1"),
        ({"chunk_frames": 0}, "--chunk-frames is 0, wanted at least 1"),
        ({"answer_tokens": 0}, "--answer-tokens is 0, wanted at least 1"),
        ({"max_tokens": -1}, "--max-tokens is -1, wanted at least 1"),
        ({"max_tokens": 40000}, "--max-tokens is 40000, more than the 36864 that model molmo2-4b was made for"),
        (
            {"frames": 100, "max_tokens": 3200},
            "the 3200 tokens that --max-tokens leaves room for. At most 64 frames fit",
        ),
        ({"frames": 900}, "it passes the 36864 tokens that model molmo2-4b was made for. At most 773 frames fit"),
        ({"frames": 10**9}, "At most 773 frames fit at this prune fraction"),
        ({"max_tokens": 64}, "Not even one frame fits"),
    ],
)
def test_what_cannot_be_is_refused_in_the_options_words(options, complaint):
    with pytest.raises(UsageError, match=re.escape(complaint)):
        check_scenario(scenario(**options))


@pytest.mark.parametrize("prune", [1.0, -0.1, float("nan"), "0.5", True])
def test_a_fraction_outside_its_range_is_refused(prune):
    with pytest.raises(UsageError, match=r"--prune( is .*, wanted a fraction in \[0, 1\)|: wanted a number, got nan)"):
        check_scenario(replace(scenario(), prune_fraction=prune))


def test_the_longest_clip_fits_and_one_frame_more_does_not():
    asked = scenario(frames=900)
    longest = most_frames(asked, 36864)
    check_scenario(replace(asked, frames=longest))
    with pytest.raises(UsageError, match="too long"):
        check_scenario(replace(asked, frames=longest + 1))


def test_a_dense_model_is_pruned_as_by_the_trained_scorer_and_a_pruned_one_dense_has_none():
    dense = scenario(prune=0.0).config
    assert dense.scorer.kind == "none"
    assert with_scorer(dense, 0.5).scorer.kind == "learned"
    assert scenario("micro", prune=0.5).config.scorer.kind == "cosine"
    assert scenario("micro", prune=0.0).config.scorer.kind == "none"


def test_a_build_is_estimated_at_its_limits_and_at_the_longest_clip_they_hold():
    base = scenario("micro", prune=0.5)
    limits, pruning = Limits(256, 8192, 4), Pruning(0.5, "cosine", soft_bias=False, packing="ragged")
    engine = EngineSettings(base.target.backends[0], "cuda", "float16", prepack=False)
    made = scenario_of_build(base.config, base.target, limits, pruning, engine)
    check_scenario(made)
    assert (made.chunk_frames, made.packing, made.capacity) == (4, "ragged", 8192)
    assert 100 < made.frames < 256


def test_the_cache_grows_in_steps_unless_its_room_is_named():
    assert scenario().held_tokens == scenario().capacity == 3328
    assert scenario(max_tokens=5000).capacity == 5000
