import pytest

from stts_runtime.bench.measurement import comparisons, summarise, variant
from stts_runtime.timings import Timings


TOKENS = {"frames": 4, "answer_tokens": 2}


def measured(engine, prune, *passes, frames=4):
    return summarise(engine, frames, prune, [Timings(dict(one), dict(TOKENS)) for one in passes], (1, 2), None)


def test_figures_are_medians_over_the_passes():
    one = measured(
        "bundle",
        0.0,
        {"prefill": 1.0, "vision_encode": 9.0, "decode": 2.0},
        {"prefill": 5.0, "vision_encode": 1.0, "decode": 4.0},
        {"prefill": 3.0, "vision_encode": 2.0, "decode": 20.0},
    )
    assert one.milliseconds == {"prefill": 3.0, "vision_encode": 2.0, "decode": 4.0}
    assert one.vision_and_prefill == 6.0  # of the sums 10, 6 and 5: not the sum of the medians
    assert one.token_ms == 2.0
    assert len(one.passes) == 3


def test_decoding_the_video_and_the_answer_is_no_part_of_vision_and_prefill():
    one = measured(
        "bundle", 0.5, {"read_video": 100.0, "preprocessing": 1.0, "plan": 2.0, "prefill": 3.0, "decode": 50.0}
    )
    assert one.vision_and_prefill == 6.0


def test_pruned_is_compared_with_dense_of_the_same_engine_and_length():
    dense = measured("bundle", 0.0, {"vision_encode": 6.0, "prefill": 4.0, "decode": 2.0})
    pruned = measured(
        "bundle", 0.5, {"vision_score": 2.0, "plan": 1.0, "vision_encode": 1.0, "prefill": 1.0, "decode": 2}
    )
    other = measured("eager torch", 0.5, {"vision": 2.0, "prefill": 1.0, "decode": 2.0})
    longer = measured("bundle", 0.5, {"prefill": 1.0, "decode": 2.0}, frames=8)
    (found,) = comparisons([dense, pruned, other, longer])
    assert (found.engine, found.frames, found.prune) == ("bundle", 4, 0.5)
    assert found.vision_and_prefill == pytest.approx(2.0)
    assert found.vision == pytest.approx(6 / 4)
    assert found.stages == {"vision_encode": 6.0, "prefill": 4.0, "decode": 1.0}
    assert found.plan_share == pytest.approx(0.2)


def test_variants_have_names_people_use():
    assert [variant(prune) for prune in (0.0, 0.5)] == ["dense", "pruned 50%"]
