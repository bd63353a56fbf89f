import sys

import numpy as np
import pytest

from stts_runtime.bench.peak_memory import PeakTimings, can_reset_peak
from stts_runtime.sizes import MIB


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be set back")


@LINUX
def test_memory_that_a_stage_took_and_gave_back_is_seen():
    assert can_reset_peak()
    timings = PeakTimings()
    with timings.stage("prefill"):
        np.ones(64 * MIB, np.uint8).sum()
    assert 60 * MIB < timings.working_bytes["prefill"] < 80 * MIB
    assert 60 * MIB < timings.peak_bytes < 80 * MIB


@LINUX
def test_what_was_there_before_a_stage_does_not_count_for_it_but_for_the_whole():
    timings = PeakTimings()
    with timings.stage("read_video"):
        held = np.ones(64 * MIB, np.uint8)
    with timings.stage("prefill"):
        more = np.ones(16 * MIB, np.uint8)
    assert 14 * MIB < timings.working_bytes["prefill"] < 30 * MIB
    assert 76 * MIB < timings.peak_bytes < 100 * MIB
    assert held.size > more.size


@LINUX
def test_of_a_stage_that_runs_in_pieces_the_largest_counts():
    timings = PeakTimings()
    for size in (32, 8):
        with timings.stage("vision_score"):
            np.ones(size * MIB, np.uint8).sum()
    assert 30 * MIB < timings.working_bytes["vision_score"] < 45 * MIB
    assert set(timings.milliseconds) == {"vision_score"}


def test_a_system_without_such_a_peak_is_told_apart(tmp_path):
    assert not can_reset_peak(tmp_path / "missing" / "clear_refs")
