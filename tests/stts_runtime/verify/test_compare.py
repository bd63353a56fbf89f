import numpy as np
import pytest

from stts_runtime.verify.compare import compare_rows
from stts_runtime.verify.report import Rung
from stts_runtime.verify.tolerances import ENGINE


TOLERANCE = ENGINE["float32"]


def rows(count=8, width=16):
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


def compared(expected, got):
    return compare_rows("x", expected, got, float(np.abs(expected).max()), TOLERANCE)


def test_equal_tensors_agree():
    line = compared(rows(), rows())
    assert (line.ok, line.cosine, line.max_error, line.relative_error) == (True, pytest.approx(1.0), 0.0, 0.0)


def test_errors_are_measured_against_the_largest_magnitude():
    expected = rows()
    got = expected.copy()
    got[3, 4] += 0.25
    line = compare_rows("x", expected, got, 1000.0, TOLERANCE)
    assert line.max_error == pytest.approx(0.25)
    assert line.relative_error == pytest.approx(0.25e-3)
    assert line.p99_error < line.max_error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail_and_leave_no_number_behind(value):
    got = rows()
    got[0, 0] = value
    line = compared(rows(), got)
    assert not line.ok
    assert "1 of 128 values" in line.message
    assert line.cosine is line.max_error is line.relative_error is None
    assert not Rung("decoder", "prefill", (line,)).ok


def test_another_shape_and_an_empty_tensor_fail():
    assert "shape [4, 16], wanted [8, 16]" in compared(rows(), rows(4)).message
    empty = compare_rows("x", rows(0), rows(0), 0.0, TOLERANCE)
    assert not empty.ok


def test_a_few_huge_channels_do_not_hide_a_wrong_row():
    expected = rows()
    expected[0] *= 1e5
    got = expected.copy()
    got[5] = -got[5]
    line = compared(expected, got)
    assert line.relative_error < TOLERANCE.relative
    assert not line.ok
    assert line.cosine == pytest.approx(-1.0)


def test_rows_of_rounding_noise_are_not_judged_by_their_direction():
    expected = rows()
    expected[5] *= 1e-8
    got = expected.copy()
    got[5] = -got[5]
    assert compared(expected, got).ok


def test_all_zero_tensors_agree_only_with_themselves():
    zero = np.zeros((2, 4), np.float32)
    assert compared(zero, zero).ok
    assert not compared(zero, zero + 1e-6).ok
