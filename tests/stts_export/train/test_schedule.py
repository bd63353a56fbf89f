import pytest
from hypothesis import given, strategies as st

from stts_export.train.loop import rate_factor


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine():
    factors = [rate_factor(step, 100, 10, 0.2) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.2)
    assert rate_factor(10 + 44, 100, 10, 0.2) + rate_factor(10 + 45, 100, 10, 0.2) == pytest.approx(1.2)


def test_a_short_stage_warms_up_for_a_tenth_of_it():
    assert [rate_factor(step, 20, 200, 0.0) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]


@given(st.integers(1, 500), st.integers(0, 300), st.floats(0, 1))
def test_the_rate_never_leaves_its_range(steps: int, warmup: int, final: float):
    factors = [rate_factor(step, steps, warmup, final) for step in range(steps)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    falling = factors[steps // 10 :]
    assert falling == pytest.approx(sorted(falling, reverse=True))
