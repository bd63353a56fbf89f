import numpy as np
import pytest
import tokenizers
import torch
from reference.decoding import all_logits
from reference.toy_bundle import toy_checkpoint, toy_config
from reference.toy_tokenizer import trained_tokenizer

from stts_export.checkpoint.load import load_into
from stts_export.data.records import Question
from stts_export.models.model import Model
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.train.example import Example, patches_of
from stts_export.train.forward import Pruning, VideoQA
from stts_runtime.clip.frames import patches_from_frames, resize_frames
from stts_runtime.language.prompt import build_first_turn, build_next_turn
from stts_runtime.language.tokenizer import Tokenizer


QUESTIONS = (
    Question("a.zip", "What happens?", "nothing"),
    Question("a.zip", "How many?", "two", ("one", "two", "three")),
)


def video_qa(kind: str = "qwen3", row_tokens: int = 2048, turns: int = 1) -> VideoQA:
    config = toy_config(kind)
    model = Model(config)
    load_into(model, toy_checkpoint(config))
    return VideoQA(model, Tokenizer(tokenizers.Tokenizer.from_str(trained_tokenizer())), row_tokens, turns)


def example(seed: int, frames: int, questions: tuple[Question, ...] = QUESTIONS) -> Example:
    pixels = torch.randint(0, 256, (frames, 40, 60, 3), generator=torch.Generator().manual_seed(seed))
    return Example(pixels.to(torch.uint8), np.arange(frames) / 2, questions)


def alone(qa: VideoQA, clip: Example, question: Question, pruning: Pruning | None) -> tuple[torch.Tensor, list[int]]:
    """Return the logits that predict the answer, and its ids, by the runtime's prompt and the decoder alone."""
    model, grid = qa.model, qa.model.grid
    patches = patches_of([clip], grid, torch.device("cpu"))
    if pruning is None:
        features, kept = run_vision_dense(model, patches), np.full(len(patches), grid.groups)
    else:
        result = run_vision(model, patches, None, pruning.fraction, pruning.packing, pruning.soft_bias)
        features, kept = result.features, result.keep.numpy().sum(1)
    tokenizer, config = qa.writer.tokenizer, model.config
    turn = build_first_turn(tokenizer, config.prompt, config.tokens, clip.timestamps, kept, question.prompt)
    answer = [*tokenizer.encode(question.target, specials=False), config.tokens.stop[0]]
    ids = torch.tensor([[*turn.token_ids, *answer]])
    flags = torch.from_numpy(np.append(turn.vision_flags, np.zeros(len(answer), bool)))
    logits = all_logits(model.decoder, ids, features, flags)
    return logits[len(turn.token_ids) - 1 : -1], answer


@pytest.mark.parametrize("kind", ["qwen3", "olmo3"])
@pytest.mark.parametrize("pruning", [None, Pruning(0.5), Pruning(0.3, "ragged", soft_bias=False)])
def test_clips_and_questions_packed_into_rows_give_the_loss_of_each_alone(kind: str, pruning: Pruning | None) -> None:
    qa = video_qa(kind, row_tokens=150)
    clips = [example(1, 3), example(2, 4), example(3, 2, QUESTIONS[:1])]
    with torch.no_grad():
        outcome = qa(clips, pruning)
        losses, weights, correct = [], [], []
        for clip in clips:
            for question in clip.questions:
                # scored alone, a clip's frames have the same neighbours but for the one before its first, which stays
                logits, answer = alone(qa, clip, question, pruning)
                losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
                weights.append(len(answer) ** -0.5)
                correct.append(bool((logits.argmax(-1) == torch.tensor(answer)).all()))
        lengths = [len(alone(qa, clip, q, pruning)[1]) for clip in clips for q in clip.questions]
    expected = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(
        n * w for n, w in zip(lengths, weights, strict=True)
    )
    assert outcome.language_loss.item() == pytest.approx(expected.item(), rel=2e-4)
    assert outcome.correct.tolist() == correct
    assert (outcome.aux_loss.item() > 0) == (pruning is not None)


def test_questions_of_a_conversation_follow_each_other_as_the_runtime_sends_them() -> None:
    qa = video_qa(turns=2)
    tokenizer, config = qa.writer.tokenizer, qa.model.config
    first, second, third = (*QUESTIONS, Question("a.zip", "Where?", "left"))
    clip = example(1, 3, (first, second, third))
    features = run_vision_dense(qa.model, patches_of([clip], config.grid, torch.device("cpu")))
    kept = [config.grid.groups] * 3
    losses = []
    for branch in ((first,), (second, third)):  # one turn, then two
        ids: list[int] = []
        flags = np.zeros(0, bool)
        for question in branch:
            if ids:
                turn = build_next_turn(tokenizer, config.prompt, config.tokens, question.prompt)
            else:
                arguments = (config.prompt, config.tokens, clip.timestamps, kept, question.prompt)
                turn = build_first_turn(tokenizer, *arguments)
            answer = tokenizer.encode(question.target, specials=False)
            ids += turn.token_ids.tolist()
            flags = np.concatenate([flags, turn.vision_flags, np.zeros(len(answer), bool)])
            begin, ids = len(ids), ids + answer
            with torch.no_grad():
                logits = all_logits(qa.model.decoder, torch.tensor([ids]), features, torch.from_numpy(flags))
            wanted = torch.tensor([*answer, config.tokens.stop[0]])
            losses.append(
                (torch.nn.functional.cross_entropy(logits[begin - 1 :], wanted, reduction="sum"), len(wanted))
            )
    expected = sum(loss * count**-0.5 for loss, count in losses) / sum(count**0.5 for _, count in losses)
    with torch.no_grad():
        assert qa([clip], None).language_loss.item() == pytest.approx(float(expected), rel=2e-4)
        alone_each = video_qa()([clip], None)
        assert alone_each.language_loss.item() != pytest.approx(float(expected), rel=1e-3)
        # evaluation asks each right behind the video
        assert qa.eval()([clip], None).language_loss.item() == pytest.approx(alone_each.language_loss.item(), rel=1e-5)


def test_an_answer_counts_as_right_when_greedy_decoding_gives_it() -> None:
    qa = video_qa()
    clip = example(1, 3, QUESTIONS[:1])
    logits, _ = alone(qa, clip, QUESTIONS[0], None)
    first = int(logits[0].argmax())
    with torch.no_grad():
        qa.writer.branch = lambda prompt, answer: (qa.writer._branch(prompt, answer)[0], np.array([first]))
        assert qa([clip], None).correct.tolist() == [True]
        qa.writer.branch = lambda prompt, answer: (qa.writer._branch(prompt, answer)[0], np.array([first + 1]))
        assert qa([clip], None).correct.tolist() == [False]


def test_the_language_loss_reaches_the_scorer_through_the_soft_bias_alone() -> None:
    qa = video_qa()
    clips = [example(1, 3)]
    for soft_bias in (True, False):
        qa.zero_grad()
        qa(clips, Pruning(0.5, soft_bias=soft_bias)).language_loss.backward()
        gradient = qa.model.scorer.mlp.third.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == soft_bias


def test_patches_are_those_of_the_runtime_but_for_rare_bytes() -> None:
    grid = toy_config().grid
    clip = example(5, 2)
    ours = patches_of([clip], grid, torch.device("cpu")).numpy()
    theirs = patches_from_frames(resize_frames(clip.frames.numpy(), grid.image_size), grid)
    assert np.abs(ours - theirs).max() < 1.01 / 127.5
    assert (np.abs(ours - theirs) > 1e-5).mean() < 1e-3
