"""The attention kernels, in Triton's interpreter and between guard pages, against float64."""

import dataclasses

import numpy as np
import pytest
from reference.attention_calls import join_call, outputs_of, prefix_call, ragged_call
from reference.triton_interpreter import interpret, needs_triton

from stts_export.ops.attention_truth import TOLERANCES
from stts_export.ops.ragged_attention import cases as ragged
from stts_export.ops.vision_prefix_attention import cases as prefix


pytestmark = [needs_triton, pytest.mark.slow]

SPAN = 64  # keys a part: as many parts as there can be
SPOILT = [[0, 200, 100], [-5, 9, 10**12], [50, 40, 30], [-1, -1, -1], [0, 0, 0], [0, 0, -9], [2**40, 0, 2**40]]
"""Cumulative lengths of two frames of which no one would make two."""


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request):
    return request.param


def check(cases, outputs, kind):
    for case, output in zip(cases, outputs, strict=True):
        np.testing.assert_allclose(output, case.outputs[0], rtol=0, atol=TOLERANCES[kind], err_msg=case.name)


def at_both_borders(call, cases, kind):
    """Each case with arrays that end at a page which kills, and, in one type, with arrays that begin at one."""
    at_end = [call(case, kind, at_end=True) for case in cases]
    return at_end if kind != "float16" else at_end + [call(case, kind, at_end=False) for case in cases]


def test_ragged_attention_equals_float64(kind):
    cases = list(ragged.cases())
    calls = at_both_borders(ragged_call, cases, kind)
    check(cases * (len(calls) // len(cases)), outputs_of(calls, kind), kind)


def test_vision_prefix_attention_equals_float64(kind):
    cases = list(prefix.cases())
    calls = at_both_borders(prefix_call, cases, kind)
    check(cases * (len(calls) // len(cases)), outputs_of(calls, kind), kind)


def test_vision_prefix_attention_over_parts_of_the_keys_equals_float64(kind):
    # Parts are joined in float32: where the other type differs shows in the few keys that are quick to interpret.
    cases = [case for case in prefix.cases() if kind == "float16" or len(case.inputs[4]) <= 2 * SPAN]
    # No more than 32 are joined; where keys are many, parts are longer.
    gathered = interpret([prefix_call(case, kind, span=SPAN * (1 + len(case.inputs[4]) // 1024)) for case in cases])
    check(cases, outputs_of([join_call(kind, parts) for parts in gathered], kind), kind)


def test_lengths_that_do_not_add_up_leave_memory_alone():
    case = ragged.case_of("spoilt", [64, 6], 1, 64)
    calls = []
    for lengths in SPOILT:
        spoilt = dataclasses.replace(case, inputs=(*case.inputs[:3], np.array(lengths), case.inputs[4]))
        calls += [ragged_call(spoilt, "float16"), ragged_call(spoilt, "float16", at_end=False)]
    interpret(calls)


def test_keys_that_nobody_sees_give_zeros():
    case = prefix.case_of("hidden", [0] * 20, 1, 2, 1, 64, empty=range(20))
    hidden = dataclasses.replace(case, inputs=(*case.inputs[:3], np.zeros(1, np.int64), *case.inputs[4:]))
    (output,) = outputs_of([prefix_call(hidden, "float16")], "float16")
    assert not output.any()
    (joined,) = outputs_of([join_call("float16", *interpret([prefix_call(hidden, "float16", span=64)]))], "float16")
    assert not joined.any()


@pytest.mark.parametrize("at_end", [True, False])
def test_the_pages_around_arrays_do_kill(at_end):
    call = ragged_call(ragged.case_of("beyond", [64], 1, 16), "float16", at_end=at_end)
    call.inputs["cumulative_lengths"] = np.array([0, 65])
    call.inputs["rows"] = 65
    if at_end:
        with pytest.raises(AssertionError, match="ended with -11"):
            interpret([call])
    else:  # what follows is the array's own page, whose pattern it spoils
        with pytest.raises(AssertionError, match="wrote outside of output"):
            interpret([call])
