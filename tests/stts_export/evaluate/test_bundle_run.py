from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference.toy_questions import Toy, answering_toy, toy_questions

from stts_export.data.clips import read_clip
from stts_export.errors import UsageError
from stts_export.evaluate.bundle_run import as_said, bundle_settings, evaluate_bundle, runtime_clip
from stts_export.evaluate.compare import compare
from stts_export.evaluate.questions import questions_to_ask
from stts_export.evaluate.records import Setting
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.evaluate.torch_run import TorchOptions
from stts_runtime import load
from stts_runtime.bundle.manifest import Pruning
from stts_runtime.bundle.open import read_manifest


@pytest.fixture(scope="module")
def toy(toy_bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return answering_toy(toy_bundle("ffd"), tmp_path_factory.mktemp("answering"))


def test_torch_and_a_bundle_answer_alike(toy: Toy) -> None:
    options = TorchOptions("cpu", batch=1)
    on_bundle = EvaluationRequest(str(toy.bundle), toy.data, fractions=(0.0, 0.3, 0.5), one_frame=True)
    in_torch = EvaluationRequest(
        str(toy.checkpoint),
        toy.data,
        model=str(toy.recipe),
        fractions=(0.0, 0.3, 0.5),
        scorers=("learned",),
        one_frame=True,
        options=options,
    )
    first = evaluate(in_torch, lambda stage, share: None)
    second = evaluate(on_bundle, lambda stage, share: None)
    found = compare(first, second)
    assert {(one.setting.scorer, one.setting.prune) for one in found} == {
        ("one-frame", 0.0),
        ("dense", 0.0),
        ("learned", 0.3),
        ("learned", 0.5),
    }
    assert all(one.ok and one.same == 1 for one in found)
    assert any(0 < one.first < 1 for one in found)
    assert found[0].setting.scorer == "one-frame"
    assert second.answers[0].said != second.answers[1].said
    assert (first.engine, second.engine) == ("torch", "bundle")


def test_a_bundle_tells_what_it_said_and_how_long_it_took(toy: Toy) -> None:
    asked = questions_to_ask(toy.data, ["test"], 6)
    shares: list[float] = []
    with load(toy.bundle) as session:
        (found,) = evaluate_bundle(session, toy.data, asked, [Setting("model", "learned", 0.5)], shares.append)
    assert len(found.said) == len(found.right) == 6
    assert found.seconds is not None
    assert found.seconds > 0
    assert shares[-1] == 1.0
    targets = [one.question.target for one in asked]
    assert found.right == "".join("01"[text == target] for text, target in zip(found.said, targets, strict=True))


def test_the_clip_that_the_runtime_gets_has_the_timestamps_of_training(toy: Toy) -> None:
    clip = toy_questions()[0].clip
    manifest = read_manifest(toy.bundle / "manifest.json")
    sampled = read_clip(toy.data / clip, manifest.frame_sampling, 4, manifest.grid)
    made = runtime_clip(sampled, manifest.grid)
    assert np.array_equal(made.timestamps, [0.0, 1.0, 2.0, 3.0])
    assert np.array_equal(made.indices, [0, 2, 4, 6])
    assert (made.frames.shape, made.source_fps) == ((4, 126, 126, 3), 2.0)
    with load(toy.bundle) as session:
        assert session.read(made) is made


def test_a_single_frame_makes_a_clip_too(toy: Toy) -> None:
    manifest = read_manifest(toy.bundle / "manifest.json")
    sampled = read_clip(toy.data / toy_questions()[0].clip, manifest.frame_sampling, 1, manifest.grid)
    assert runtime_clip(sampled, manifest.grid).source_frames == 1


def test_the_rows_of_a_bundle_are_those_of_its_own_scorer(toy: Toy) -> None:
    manifest = read_manifest(toy.bundle / "manifest.json")
    rows = bundle_settings(manifest, (0.5, 0.0), (None, 4))
    assert [(row.scorer, row.prune, row.frames) for row in rows] == [
        ("dense", 0.0, None),
        ("learned", 0.5, None),
        ("dense", 0.0, 4),
        ("learned", 0.5, 4),
    ]
    assert len(bundle_settings(manifest, None, (None,))) == 5
    assert bundle_settings(manifest, (0.5,), (8, 4), one_frame=True)[0] == Setting("model", "one-frame", 0.0, 8)


def test_a_dense_bundle_is_not_pruned(toy: Toy) -> None:
    pruned = read_manifest(toy.bundle / "manifest.json")
    manifest = replace(pruned, pruning=Pruning(0.0, "none", soft_bias=False, packing="none"))
    assert [row.scorer for row in bundle_settings(manifest, None, (None,))] == ["dense"]
    with pytest.raises(UsageError, match="built dense and has no scorer: evaluate it with --prune 0"):
        bundle_settings(manifest, (0.5,), (None,))


def test_options_that_a_bundle_cannot_follow_are_refused(toy: Toy) -> None:
    for given, option in (
        ({"scorers": ("cosine",)}, "--scorers"),
        ({"soft_bias": False}, "--no-soft-bias"),
        ({"packing": "ragged"}, "--packing"),
        ({"options": TorchOptions(precision="bfloat16")}, "--precision"),
        ({"options": TorchOptions(batch=4)}, "--batch"),
    ):
        request = EvaluationRequest(str(toy.bundle), toy.data, **given)
        with pytest.raises(UsageError, match=f"packing and way of running are built in: leave out {option}"):
            evaluate(request, lambda stage, share: None)


def test_a_right_answer_is_what_the_tokenizer_makes_of_it(nano_bundle: Path) -> None:
    with load(nano_bundle) as session:
        assert [as_said(session.tokenizer, text) for text in ("red", "Red", " red,blue")] == [
            "red",
            "red",
            "red , blue",
        ]
