"""The vision side is timed on a clip of as many temporal patches as its frames make, of any model."""

import sys
from pathlib import Path

import pytest

from stts_runtime import load
from stts_runtime.vision import run


sys.path.insert(0, str(Path(__file__).parent))
from bundle_times import times, vision_calls


@pytest.fixture(params=["toy", "qwen"])
def bundle(request, toy_bundle, qwen_bundle):
    return str(toy_bundle("ffd") if request.param == "toy" else qwen_bundle("ffd"))


def test_the_engines_see_every_temporal_patch_of_the_clip_once(bundle, monkeypatch):
    monkeypatch.setattr(run, "patches_from_frames", run.patches_from_frames)  # which `vision_calls` replaces
    with load(bundle) as session:
        grid, vision, seen = session.manifest.grid, session.vision, []
        monkeypatch.setattr(session, "vision", lambda *given: seen.append(vision(*given)) or seen[-1])
        calls = vision_calls(session, 5)
        assert all(call() > 0 for call in calls.values())
    assert [(one.keep.shape, one.keep.all()) for one in seen] == [
        ((grid.temporal_patches(5), grid.groups), prune == 0) for prune in calls
    ]
    assert list(calls) == [0, 0.5]


def test_questions_are_timed_with_frames_of_the_grid(bundle):
    found = times(bundle, [4], 1, 1)
    assert [(one["frames"], one["prune"]) for one in found["measurements"]] == [(4, 0), (4, 0.5)]
