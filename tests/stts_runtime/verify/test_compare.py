import numpy as np
import pytest

from stts_runtime.verify.compare import compare_rows
from stts_runtime.verify.report import FAILED, PASSED, CaseResult
from stts_runtime.verify.tolerances import ENGINE


TOLERANCE = ENGINE["float32"]


def rows(count=8, width=16):
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


def compared(expected, got):
    return compare_rows("x", expected, got, float(np.abs(expected).max()), TOLERANCE)


def test_equal_tensors_agree():
    found = compared(rows(), rows())
    assert (found.verdict, found.cosine, found.max_error, found.relative_error) == (
        PASSED,
        pytest.approx(1.0),
        0.0,
        0.0,
    )


def test_errors_are_measured_against_the_largest_magnitude():
    expected = rows()
    got = expected.copy()
    got[3, 4] += 0.25
    found = compare_rows("x", expected, got, 1000.0, TOLERANCE)
    assert found.max_error == pytest.approx(0.25)
    assert found.relative_error == pytest.approx(0.25e-3)
    assert found.p99_error < found.max_error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail_and_leave_no_number_behind(value):
    got = rows()
    got[0, 0] = value
    found = compared(rows(), got)
    assert found.verdict == FAILED
    assert "1 of 128 values" in found.message
    assert found.cosine is found.max_error is found.relative_error is None
    assert not CaseResult("decoder", "prefill", (found,)).ok


def test_another_shape_and_an_empty_tensor_fail():
    assert "shape [4, 16], wanted [8, 16]" in compared(rows(), rows(4)).message
    empty = compare_rows("x", rows(0), rows(0), 0.0, TOLERANCE)
    assert empty.verdict == FAILED


def test_a_few_huge_channels_do_not_hide_a_wrong_row():
    expected = rows()
    expected[0] *= 1e5
    got = expected.copy()
    got[5] = -got[5]
    found = compared(expected, got)
    assert found.relative_error < TOLERANCE.relative
    assert found.verdict == FAILED
    assert found.cosine == pytest.approx(-1.0)


def test_rows_of_rounding_noise_are_not_judged_by_their_direction():
    expected = rows()
    expected[5] *= 1e-8
    got = expected.copy()
    got[5] = -got[5]
    assert compared(expected, got).verdict == PASSED


def test_all_zero_tensors_agree_only_with_themselves():
    zero = np.zeros((2, 4), np.float32)
    assert compared(zero, zero).verdict == PASSED
    assert compared(zero, zero + 1e-6).verdict == FAILED
