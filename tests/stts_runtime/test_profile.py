import pytest

from stts_runtime.profile import STAGES, Profile


def test_a_stage_that_runs_twice_adds_up(monkeypatch):
    clock = iter([1.0, 1.5, 4.0, 4.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    profile = Profile()
    for _ in range(2):
        with profile.stage("plan"):
            pass
    assert profile.milliseconds == {"plan": pytest.approx(750)}


def test_a_stage_that_fails_is_timed_and_its_error_comes_through():
    profile = Profile()
    with pytest.raises(ValueError, match="no"), profile.stage("decode"):
        raise ValueError("no")
    assert list(profile.milliseconds) == ["decode"]


def test_two_profiles_share_nothing():
    one, other = Profile(), Profile()
    one.tokens["frames"] = 3
    with one.stage(STAGES[0]):
        pass
    assert (other.milliseconds, other.tokens) == ({}, {})
