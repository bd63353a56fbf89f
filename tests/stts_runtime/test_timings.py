import pytest

from stts_runtime.timings import STAGES, Timings


def test_a_stage_that_runs_twice_adds_up(monkeypatch):
    clock = iter([1.0, 1.5, 4.0, 4.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timings = Timings()
    for _ in range(2):
        with timings.stage("plan"):
            pass
    assert timings.milliseconds == {"plan": pytest.approx(750)}


def test_a_stage_that_fails_is_timed_and_its_error_comes_through():
    timings = Timings()
    with pytest.raises(ValueError, match="no"), timings.stage("read_video"):
        raise ValueError("no")
    assert list(timings.milliseconds) == ["read_video"]


def test_two_profiles_share_nothing():
    one, other = Timings(), Timings()
    one.tokens["frames"] = 3
    with one.stage(STAGES[0]):
        pass
    assert (other.milliseconds, other.tokens) == ({}, {})
