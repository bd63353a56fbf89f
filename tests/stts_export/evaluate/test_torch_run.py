from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from reference.toy_bundle import toy_config, toy_model
from reference.toy_questions import toy_questions, write_dataset
from reference.toy_tokenizer import trained_tokenizer

from stts_export.data.clips import read_clip, write_clip
from stts_export.errors import DataError, UsageError
from stts_export.evaluate import torch_run
from stts_export.evaluate.loader import middle_frame
from stts_export.evaluate.questions import questions_to_ask
from stts_export.evaluate.records import Asked, Setting
from stts_export.evaluate.torch_run import ClipwiseRandom, TorchOptions, evaluate_torch
from stts_export.models.model import Model
from stts_export.models.scorer import CosineScorer, LearnedScorer, RandomScorer
from stts_export.train.example import Example
from stts_export.train.forward import Pruning, VideoQA
from stts_runtime.language.tokenizer import Tokenizer


OPTIONS = TorchOptions("cpu", batch=3).resolved()
SETTINGS = (
    Setting("model", "dense"),
    Setting("model", "learned", 0.5),
    Setting("model", "learned-no-bias", 0.5),
    Setting("model", "cosine-bias", 0.3),
    Setting("model", "random", 0.3, 4),
)


class Seen:
    """What was asked of a VideoQA that answers every other question right."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Pruning | None, int, list[int]]] = []

    def __call__(self, module: VideoQA, examples: list[Example], pruning: Pruning | None) -> object:
        lengths = [len(example.frames) for example in examples]
        self.calls.append((type(module.model.scorer).__name__, pruning, len(examples), lengths))
        questions = sum(len(example.questions) for example in examples)

        class Outcome:
            correct = torch.arange(questions) % 2 == 0

        return Outcome


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", toy_questions(clips=4))


def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(trained_tokenizer()))


def run(model: Model, data: Path, settings: tuple[Setting, ...], options: TorchOptions = OPTIONS) -> list[str]:
    asked = questions_to_ask(data, ["test"])
    found = evaluate_torch(model, tokenizer(), data, asked, settings, options, lambda share: None)
    assert [one.setting for one in found] == list(settings)
    return [one.right for one in found]


def test_each_setting_has_its_scorer_bias_and_frames(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setattr(torch_run.VideoQA, "forward", lambda self, examples, pruning: seen(self, examples, pruning))
    model = toy_model(toy_config())
    own = model.scorer
    right = run(model, data, SETTINGS)
    first = seen.calls[: len(SETTINGS) - 1]
    assert [(name, pruning and (pruning.fraction, pruning.soft_bias)) for name, pruning, _, _ in first[1:]] == [
        (LearnedScorer.__name__, (0.5, True)),
        (LearnedScorer.__name__, (0.5, False)),
        (CosineScorer.__name__, (0.3, True)),
    ]
    assert first[0][1] is None
    assert [(count, lengths[0]) for name, _, count, lengths in seen.calls if name == "ClipwiseRandom"] == [
        (3, 4),
        (1, 4),
    ]
    assert {lengths[0] for name, _, _, lengths in seen.calls if name != "ClipwiseRandom"} == {8}
    assert model.scorer is own
    assert right == ["101010101" + "101"] * len(SETTINGS)


def test_answers_do_not_depend_on_the_batch(data: Path) -> None:
    model = toy_model(toy_config())
    seen: dict[int, list[torch.Tensor]] = {}
    for batch in (1, 4):  # clips
        losses = seen.setdefault(batch, [])
        forward = VideoQA.forward

        def recorded(self: VideoQA, examples: list[Example], pruning: Pruning | None) -> object:
            outcome = forward(self, examples, pruning)  # noqa: B023
            weights = torch.tensor([float(len(example.questions)) for example in examples])
            losses.append(outcome.language_loss * weights.sum())  # noqa: B023
            return outcome

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch_run.VideoQA, "forward", recorded)
            options = TorchOptions("cpu", batch=batch, packing="ragged").resolved()
            run(model, data, (Setting("model", "random", 0.5),), options)
    torch.testing.assert_close(sum(seen[1]), sum(seen[4]), rtol=1e-4, atol=1e-4)


def test_random_scores_begin_anew_with_each_clip_as_in_a_bundle() -> None:
    config = toy_config()
    alone = RandomScorer(config.grid)
    scorer = ClipwiseRandom(alone)
    scorer.lengths = [3, 5, 1]
    start = torch.zeros(alone.state_rows, 1)
    scores, _ = scorer(torch.zeros(9, config.grid.patches, 2), start)
    clips = [alone(torch.zeros(length, config.grid.patches, 2), start)[0] for length in scorer.lengths]
    assert torch.equal(scores, torch.cat(clips))


def test_frames_and_questions_reach_the_model_as_they_are_stored(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Example] = []

    def forward(self: VideoQA, examples: list[Example], pruning: Pruning | None) -> object:
        seen.extend(examples)

        class Outcome:
            correct = torch.zeros(sum(len(example.questions) for example in examples), dtype=torch.bool)

        return Outcome

    monkeypatch.setattr(torch_run.VideoQA, "forward", forward)
    run(toy_model(toy_config()), data, (Setting("model", "dense", 0.0, 4),))
    asked = questions_to_ask(data, ["test"])
    assert [question for example in seen for question in example.questions] == [one.question for one in asked]
    assert all(np.array_equal(example.timestamps, [0.0, 1.0, 2.0, 3.0]) for example in seen)
    assert seen[0].frames.shape == (4, 126, 126, 3)


def test_one_frame_stands_in_every_place(data: Path) -> None:
    """What is right of a clip whose frames are all its middle one is right of the clip by one frame."""
    model = toy_model(toy_config())
    one_frame, dense = (Setting("model", scorer, 0.0, 4) for scorer in ("one-frame", "dense"))
    found = {one: run(model, data, (one,)) for one in (one_frame, dense)}
    for path in data.glob("clips/*.zip"):
        frames = read_clip(path, model.config.frame_sampling, 4, model.grid).frames  # the frames that are looked at
        write_clip(path, np.repeat(frames[2:3], 8, axis=0), 2.0, lossless=True)
    assert run(model, data, (dense,)) == found[one_frame]


def test_middle_frames_are_of_either_kind_of_array() -> None:
    frames = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    assert np.array_equal(middle_frame(frames), np.stack([frames[2]] * 5))
    assert torch.equal(middle_frame(torch.from_numpy(frames[:4])), torch.from_numpy(np.stack([frames[2]] * 4)))


def test_a_batch_that_does_not_fit_names_the_next_smaller(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: VideoQA, examples: list[Example], pruning: Pruning | None) -> object:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(torch_run.VideoQA, "forward", forward)
    with pytest.raises(UsageError, match=r"model, dense: a batch of 4 clips does not fit.*use --batch 2"):
        run(toy_model(toy_config()), data, SETTINGS[:1], TorchOptions("cpu", batch=4).resolved())
    with pytest.raises(UsageError, match="use fewer --frames"):
        run(toy_model(toy_config()), data, SETTINGS[:1], TorchOptions("cpu", batch=1).resolved())


def test_a_damaged_clip_is_named(data: Path) -> None:
    asked: tuple[Asked, ...] = questions_to_ask(data, ["test"])
    (data / asked[0].question.clip).write_bytes(b"torn")
    with pytest.raises(DataError, match=r"clips/0\.zip cannot be read as a clip"):
        run(toy_model(toy_config()), data, SETTINGS[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TorchOptions("cpu", precision="float16"), "--precision float16 is unknown"),
        (TorchOptions("cpu", batch=0), "--batch is 0"),
        (TorchOptions("gpu"), "--device gpu is unknown"),
    ],
)
def test_impossible_options_are_refused(options: TorchOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.resolved()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    assert TorchOptions().resolved() == TorchOptions("cpu", "float32", 1, "ffd")
    with pytest.raises(UsageError, match="torch finds no GPU here; use --device cpu"):
        TorchOptions("cuda").resolved()
