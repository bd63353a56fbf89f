"""Time by roofline: what binds, what scales, and what is not known."""

from dataclasses import replace

import pytest
from reference.scenario import scenario

from stts_export.estimate.count import Work
from stts_export.estimate.efficiency import Speed
from stts_export.estimate.latency import duration, stages_of
from stts_runtime.errors import UsageError


SPEED = Speed(flops=1e12, bandwidth=1e9, attention_cost=2.0)


def test_the_longer_of_products_and_bytes_is_the_time():
    work = Work(linear_flops=10**9, attention_flops=10**9, weights=0, activations=1000)
    assert duration(work, SPEED, 0, 2) == duration(work, SPEED, 10**6, 2)
    assert duration(work, SPEED, 0, 2).milliseconds == pytest.approx(3.0)
    assert duration(work, SPEED, 0, 2).bound == "compute"
    loaded = duration(work, SPEED, 10**7, 2)
    assert loaded.bound == "bandwidth"
    assert loaded.milliseconds == pytest.approx(10.002)


def test_stages_run_in_the_order_of_the_parts():
    assert [stage.stage for stage in stages_of(scenario())] == ["vision_score", "vision_encode", "prefill", "decode"]
    assert [stage.stage for stage in stages_of(scenario(prune=0.0))] == ["vision_dense", "prefill", "decode"]


def test_prefill_is_bound_by_products_and_decoding_by_bytes():
    stages = {stage.stage: stage for stage in stages_of(scenario())}
    assert stages["prefill"].bound == "compute"
    assert stages["decode"].bound == "bandwidth"
    assert stages["decode"].runs == 64
    # 8 GB of weights a token at 0.77 of 204.8 GB/s
    assert stages["decode"].milliseconds / 64 == pytest.approx(54, abs=2)


def test_a_device_twice_as_fast_takes_half_as_long():
    slow, fast = (stages_of(scenario(target=name, prune=0.0)) for name in ("jetson-orin-nx", "jetson-orin-nx-super"))
    assert slow[1].milliseconds / fast[1].milliseconds == pytest.approx(19.2 / 15.0)
    assert slow[2].milliseconds == fast[2].milliseconds


def test_what_runs_on_a_device_of_unknown_speed_has_work_but_no_time():
    stages = stages_of(scenario("micro", "cpu", frames=8))
    assert all(stage.milliseconds is None and stage.bound is None for stage in stages)
    assert all(stage.tflop > 0 for stage in stages)


def test_a_peak_that_a_recipe_lacks_is_asked_for():
    from dataclasses import replace

    from stts_runtime.bundle.target import PeakTflops

    asked = scenario()
    bare = replace(asked, target=replace(asked.target, peak_tflops=PeakTflops(bfloat16=40.0)))
    with pytest.raises(UsageError, match=r"no figure for float16 products .*--tflops"):
        stages_of(bare)


def test_a_cache_in_8_bits_is_read_in_half_of_the_bytes_and_little_more():
    asked = scenario("molmo2-4b", "jetson-orin", frames=16)
    shape = asked.config.decoder
    floats, rounded = (
        {stage.stage: stage for stage in stages_of(replace(asked, kv_cache=kept))} for kept in ("float", "int8")
    )
    step = floats["decode"]
    read = 2 * shape.layers * shape.kv_heads * step.tokens * (2 * shape.head_dim - (shape.head_dim + 2))
    assert 1e9 * (step.gigabytes - rounded["decode"].gigabytes) == pytest.approx(read * asked.answer_tokens)
    assert rounded["decode"].milliseconds < step.milliseconds
    assert rounded["vision_encode"] == floats["vision_encode"]
