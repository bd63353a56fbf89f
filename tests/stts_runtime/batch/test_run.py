import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stts_export.data.clips import clip_to_video
from stts_export.evaluate.recorded import SPLIT, generate_asked
from stts_runtime.batch.answer import Answer, Settings, checked
from stts_runtime.batch.output import unfinished
from stts_runtime.batch.questions import Task
from stts_runtime.batch.run import BatchRequest, answer_batch, answer_here
from stts_runtime.bundle.open import open_bundle
from stts_runtime.cli import main
from stts_runtime.errors import EngineError, UsageError


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips with two questions each, about one of them a line that has no clip, and what is right."""
    folder = tmp_path_factory.mktemp("asked")
    generate_asked("nano", folder / "data")
    lines = [json.loads(line) for line in (folder / "data" / f"{SPLIT}.jsonl").read_text().splitlines()]
    clips = list(dict.fromkeys(line["clip"] for line in lines))[:3]
    questions = []
    for number, clip in enumerate(clips):
        clip_to_video(folder / "data" / clip, folder / f"{number}.mp4")
        about = [line for line in lines if line["clip"] == clip and line["kind"] in ("mover", "shape")]
        questions += [{"clip": f"{number}.mp4", "question": line["question"]} for line in about]
    questions.insert(2, {"clip": "none.mp4", "question": "What colour moves?", "id": "lost"})
    (folder / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return folder


def request_of(asked: Path, output: Path, bundle: Path, **more: object) -> BatchRequest:
    return BatchRequest(bundle, asked / "questions.jsonl", output, **more)  # type: ignore[arg-type]


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_question_has_its_line_and_a_clip_that_is_missing_says_so(
    asked: Path, nano_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "answers.jsonl"
    result = answer_batch(request_of(asked, output, nano_bundle))
    questions, answers = lines_of(asked / "questions.jsonl"), lines_of(output)
    assert [(one["clip"], one["question"]) for one in answers] == [(one["clip"], one["question"]) for one in questions]
    assert (result.questions, result.resumed, result.failed) == (len(questions), 0, 1)
    assert answers[2]["id"] == "lost"
    assert "does not exist" in str(answers[2]["error"])
    assert all(isinstance(one["answer"], str) and one["vision_tokens"] for one in answers if "error" not in one)
    with pytest.raises(UsageError, match="is there already: give another -o, or --overwrite"):
        answer_batch(request_of(asked, output, nano_bundle))


def test_what_was_stopped_is_gone_on_with_and_ends_as_if_it_had_not_been(
    asked: Path, nano_bundle: Path, tmp_path: Path
) -> None:
    answer_batch(request_of(asked, tmp_path / "whole.jsonl", nano_bundle))
    output = tmp_path / "answers.jsonl"

    def broken(bundle: Path, tasks: tuple[Task, ...], settings: Settings) -> Iterator[tuple[int, Answer]]:
        found = list(answer_here(bundle, tasks, settings))
        yield from [found[2], found[0], found[1], found[4]]  # in another order, and not all
        raise EngineError("the engine is gone")

    with pytest.raises(EngineError):
        answer_batch(request_of(asked, output, nano_bundle), broken)
    assert not output.exists()
    assert len(lines_of(unfinished(output))) == 1 + 3  # what it is about, and those without a gap
    told: list[int] = []
    result = answer_batch(request_of(asked, output, nano_bundle), on_line=lambda done, of: told.append(done))
    assert result.resumed == 3
    assert told == list(range(4, result.questions + 1))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_settings_are_not_gone_on_with(asked: Path, nano_bundle: Path, tmp_path: Path) -> None:
    def nothing(bundle: Path, tasks: tuple[Task, ...], settings: Settings) -> Iterator[tuple[int, Answer]]:
        yield 0, Answer("one")
        raise EngineError("none")

    with pytest.raises(EngineError):
        answer_batch(request_of(asked, tmp_path / "a", nano_bundle), nothing)
    with pytest.raises(UsageError, match="or other settings"):
        answer_batch(request_of(asked, tmp_path / "a", nano_bundle, settings=Settings(prune=0.7)), nothing)


def test_a_question_may_have_settings_of_its_own(asked: Path, nano_bundle: Path, tmp_path: Path) -> None:
    plain = {"clip": "0.mp4", "question": "What colour moves?"}
    lines = [plain, {**plain, "prune": 0}, {**plain, "frames": 4}, {**plain, "prune": 1.5}]
    (asked / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer_batch(BatchRequest(nano_bundle, asked / "own.jsonl", tmp_path / "a", settings=Settings(prune=0.5)))
    half, dense, few, wrong = lines_of(tmp_path / "a")
    assert half["vision_tokens"] == 64
    assert dense["vision_tokens"] == dense["vision_tokens_before_pruning"] == 128
    assert few["vision_tokens"] == 32
    assert "wanted a fraction in [0, 1)" in str(wrong["error"])


def test_the_command_tells_what_became_of_it(
    asked: Path, nano_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(nano_bundle), "--questions", str(asked / "questions.jsonl"), "-o", str(tmp_path / "a")]
    assert main([*words, "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == 1
    assert "1 without an answer; their lines say why" in said.err
    assert main([*words, "--ray", "--actors", "0"]) == 2
    assert "0 actors of 1.0 processors" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--clips", str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(prune=1.5), "1.5"),
        (Settings(frames=0), "--frames is 0, wanted at least 1"),
        (Settings(frames=1000), "1000 frames"),
    ],
)
def test_what_can_work_for_no_question_is_refused_before_any_is_answered(
    asked: Path, nano_bundle: Path, tmp_path: Path, settings: Settings, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        answer_batch(request_of(asked, tmp_path / "answers.jsonl", nano_bundle, settings=settings))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_asked_is_refused(asked: Path, nano_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(nano_bundle)
    with pytest.raises(UsageError, match="has no tokenizer, so it can be timed but not asked"):
        checked(Settings(), replace(bundle, manifest=replace(bundle.manifest, tokenizer=None)))


def test_zeros_of_a_question_are_its_own(asked: Path, nano_bundle: Path, tmp_path: Path) -> None:
    lines = [{"clip": "0.mp4", "question": "What colour moves?", **own} for own in ({"frames": 0}, {"max_tokens": 0})]
    (asked / "zeros.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "answers.jsonl"
    result = answer_batch(BatchRequest(nano_bundle, asked / "zeros.jsonl", output))
    assert result.failed == 2
    assert all("0" in str(line["error"]) for line in lines_of(output))
