"""Every operator that has kernels, in every implementation, on one set of cases.

The truth is in the cases: what the host's plan makes of them, in numpy, or float64. docs/plugins.md shows the table.
"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.conformance import OPERATORS
from reference.plugin_harness import CHECKOUT, Node, harness_for
from reference.run_op import run_op_outputs

from stts_export.ops.group_pool import cases as group_pool
from stts_export.ops.group_score import cases as group_score
from stts_export.ops.pack_tokens.cases import planned_case
from stts_export.ops.ragged_attention.by_frame import MOST_FRAMES
from stts_export.ops.select_groups.cases import case_of
from stts_runtime.vision.plan import kept_groups


SEEDS = (0, 1, 2)
"""Orders of threads and blocks: theirs, and two that were drawn."""


@pytest.fixture(params=OPERATORS.values(), ids=OPERATORS)
def operator(request):
    return request.param


def in_torch(operator, case):
    got = operator.reference(*map(torch.from_numpy, case.inputs), **case.attributes)
    return [tensor.numpy() for tensor in (got if isinstance(got, tuple) else (got,))]


def on_onnxruntime(form, operator, case):
    return run_op_outputs(form, operator.name, case.inputs, operator.kinds(case), case.attributes)


def check_plugin(harness, operator, cases, seed=0):
    nodes = [Node(operator.plugin, case.inputs, case.attributes) for case in cases]
    for case, answer in zip(cases, harness.run(nodes, seed=seed), strict=True):
        assert answer.refused is None, (case.name, answer)
        operator.check(case, answer.outputs)


def test_torch(operator):
    for case in operator.portable_cases():
        operator.check(case, in_torch(operator, case))


@pytest.mark.parametrize("form", ["function", "expanded"])
def test_the_body_on_onnxruntime(operator, form):
    for case in operator.portable_cases():
        operator.check(case, on_onnxruntime(form, operator, case))


def test_the_body_in_onnxruntimes_own_attention():
    operator = OPERATORS["RaggedAttention"]
    for case in operator.portable_cases():
        if len(case.inputs[3]) - 1 <= MOST_FRAMES:
            operator.check(case, on_onnxruntime("onnxruntime", operator, case))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_plugin_over_twins(operator, run_folder, machine, seed):
    check_plugin(harness_for(machine, run_folder), operator, operator.plugin_cases(), seed)


@pytest.mark.slow
def test_the_plugin_over_twins_under_sanitizers(operator, run_folder):
    check_plugin(harness_for("x86_64", run_folder, sanitized=True), operator, operator.plugin_cases(), seed=3)


def test_the_page_has_every_operator_and_its_cases():
    page = (CHECKOUT / "docs/plugins.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.M))
    assert table == {operator.name: str(len(list(operator.cases()))) for operator in OPERATORS.values()}
    assert set(re.findall(r"^\| `(Stts\w+)` \|", page, re.M)) == {operator.plugin for operator in OPERATORS.values()}


SCORES = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 0.5, 1e-45, -1e-45]),
)


@st.composite
def clips(draw):
    """Scores with many ties, and a share to prune."""
    frames, groups = draw(st.integers(1, 6)), draw(st.sampled_from([1, 4, 9, 33]))
    few = draw(st.lists(SCORES, min_size=1, max_size=6))
    places = draw(st.lists(st.integers(0, len(few) - 1), min_size=frames * groups, max_size=frames * groups))
    scores = np.array(few, dtype=np.float32)[places].reshape(frames, groups)
    return scores, draw(st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.99]))


@settings(max_examples=60)
@given(clips())
def test_any_scores_select_what_the_plan_selects(clip):
    operator, case = OPERATORS["SelectGroups"], case_of("drawn", *clip)
    operator.check(case, in_torch(operator, case))
    operator.check(case, on_onnxruntime("function", operator, case))


@settings(max_examples=8)
@given(st.lists(clips(), min_size=40, max_size=40), st.integers(1, 2**31))
def test_the_plugin_selects_what_the_plan_selects(run_folder, drawn, seed):
    cases = [case_of(f"drawn {place}", *clip) for place, clip in enumerate(drawn)]
    check_plugin(harness_for("x86_64", run_folder), OPERATORS["SelectGroups"], cases, seed)


@settings(max_examples=8)
@given(st.data())
def test_the_plugin_packs_what_the_plan_reads_out(run_folder, data):
    cases = []
    for place in range(20):
        pool, down, across, frames = data.draw(st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 4)))
        width, dtype = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([np.float16, np.float32]))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        keep = rng.random((frames, down * across)) < 0.5
        keep[0] = True
        hidden = rng.standard_normal((frames, down * across * pool**2, width)).astype(dtype)
        cases.append(planned_case(f"drawn {place}", hidden, keep, pool, across * pool))
    check_plugin(harness_for("x86_64", run_folder), OPERATORS["PackTokens"], cases, seed=data.draw(st.integers(0, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 12])  # moved in packs, and number by number
def test_the_scorers_plugins_take_bfloat16(run_folder, width):
    rng = np.random.default_rng(width)
    query, key, value = (rng.standard_normal((2, count, width)).astype("bfloat16") for count in (4, 36, 36))
    pooled = group_pool.case_of("bfloat16", query, key, value, heads=2, pool=3, columns=6)
    scored = group_score.case_of("bfloat16", key, pool=3, columns=6)
    nodes = [
        Node(f"Stts{name}", case.inputs, case.attributes)
        for name, case in (("GroupPool", pooled), ("GroupScore", scored))
    ]
    by_pool, by_score = harness_for("x86_64", run_folder).run(nodes)
    assert by_pool.outputs[0].dtype == query.dtype
    np.testing.assert_allclose(by_pool.outputs[0].astype(np.float64), pooled.outputs[0], rtol=2**-8, atol=1e-4)
    for got, wanted in zip(by_score.outputs, scored.outputs, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 7, 64])
@pytest.mark.parametrize("prune_fraction", [0.0, 0.3, 0.5, 0.7, 0.9])
def test_the_length_of_kept_is_the_budget(frames, prune_fraction):
    scores = np.random.default_rng(frames).random((frames, 81), dtype=np.float32)
    case = case_of("budget", scores, prune_fraction)
    assert len(case.inputs[1]) == kept_groups(81, frames, prune_fraction) == case.outputs[0].sum()
