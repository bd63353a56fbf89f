"""Qwen3-VL in training: patches, rows and losses are those of the runtime's prompt and the decoder alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.qwen3_vl_bundle import config_of, tokenizer_text
from reference.qwen3_vl_sizes import GRIDS
from reference.toy_bundle import write_toy_recipe
from reference.toy_training import ToyRun
from tokenizers import Tokenizer as Library

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.data.records import Question
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.models.model import Model
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.recipe.config import ModelConfig
from stts_export.train.example import Example, lengths_of, patches_of
from stts_export.train.forward import Pruning, VideoQA
from stts_export.train.oracle import oracle_keep
from stts_export.train.patch_classes import PatchClasses, patch_classes_of, word_targets
from stts_export.train.recipe import Words
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.clip.frames import patches_from_frames, resize_frames
from stts_runtime.language.prompt import build_first_turn
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.language.tokenizer import Tokenizer


QUESTIONS = (Question("a.zip", "What happens?", "nothing"), Question("a.zip", "How many?", "two", ("one", "two")))
CPU = torch.device("cpu")


def config(grid: Grid | None = None) -> ModelConfig:
    """The toy with a learned scorer, on its own grid or another."""
    own = config_of("learned")
    own = replace(own, scorer=replace(own.scorer, soft_bias=True))
    return own if grid is None else replace(own, grid=grid)


def tokenizer() -> Tokenizer:
    return Tokenizer(Library.from_str(tokenizer_text()))


def video_qa(row_tokens: int = 2048, turns: int = 1) -> VideoQA:
    model = Model(config())
    load_into(model, random_checkpoint(model.config, 3))
    return VideoQA(model, tokenizer(), row_tokens, turns)


def example(seed: int, frames: int, questions: tuple[Question, ...] = QUESTIONS) -> Example:
    pixels = torch.randint(0, 256, (frames, 30, 50, 3), generator=torch.Generator().manual_seed(seed))
    return Example(pixels.to(torch.uint8), np.arange(frames) / 2, questions)


@pytest.mark.parametrize("frames", [1, 4, 5])
@pytest.mark.parametrize("size", [None, (37, 51)])
def test_patches_are_the_runtimes_two_frames_each(frames: int, size: tuple[int, int] | None) -> None:
    grid = GRIDS[0]
    pictures = np.random.default_rng(frames).integers(0, 256, (frames, *(size or grid.size), 3), dtype=np.uint8)
    clip = Example(torch.from_numpy(pictures), np.arange(frames) / 2, ())
    got = patches_of([clip], grid, CPU).numpy()
    expected = patches_from_frames(resize_frames(pictures, grid.image_size, grid.resampling), grid)
    assert got.shape == (lengths_of([clip], grid)[0], grid.patches, grid.patch_values)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def alone(qa: VideoQA, clip: Example, question: Question, pruning: Pruning | None) -> tuple[torch.Tensor, list[int]]:
    """The logits that predict the answer, and its ids, by the runtime's prompt and positions and the decoder alone."""
    model, grid = qa.model, qa.model.grid
    patches = patches_of([clip], grid, CPU)
    if pruning is None:
        features, keep = run_vision_dense(model, patches), np.ones((len(patches), grid.groups), bool)
    else:
        result = run_vision(model, patches, None, pruning.fraction, pruning.packing, pruning.soft_bias)
        features, keep = result.features, result.keep.numpy()
    made, times = model.config, patch_times(clip.timestamps, grid.frames)
    turn = build_first_turn(tokenizer(), made.prompt, made.tokens, times, keep.sum(1), question.prompt)
    answer = [*tokenizer().encode(question.target, specials=False), made.tokens.stop[0]]
    ids = np.array([*turn.token_ids, *answer])
    turned, _ = rope_positions(ids, made.tokens, keep, grid)
    is_patch = ids == made.tokens.image_patch
    hidden, _ = model.decoder.hidden_states(
        torch.from_numpy(ids[None]),
        features,
        torch.from_numpy(np.where(is_patch, np.cumsum(is_patch) - 1, 0)),
        torch.arange(len(ids)),
        torch.arange(len(ids)),
        torch.zeros(len(ids), dtype=torch.bool),
        model.decoder.empty_cache(),
        qa_core,
        torch.from_numpy(turned),
    )
    return model.decoder.logits(hidden[0])[len(turn.token_ids) - 1 : -1], answer


def qa_core(query, key, value, positions, key_positions, flags):  # type: ignore[no-untyped-def]
    """Plain causal attention."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


@pytest.mark.parametrize("pruning", [None, Pruning(0.5, "ragged"), Pruning(0.4, "ragged", soft_bias=False)])
def test_clips_and_questions_packed_into_rows_give_the_loss_of_each_alone(pruning: Pruning | None) -> None:
    qa = video_qa(row_tokens=150)
    clips = [example(1, 5), example(2, 6), example(3, 3, QUESTIONS[:1])]
    loss, weight, correct = 0.0, 0.0, []
    with torch.no_grad():
        outcome = qa(clips, pruning)
        for clip in clips:
            for question in clip.questions:
                logits, answer = alone(qa, clip, question, pruning)
                target, share = torch.tensor(answer), len(answer) ** -0.5
                loss += share * float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
                weight += share * len(answer)
                correct.append(bool((logits.argmax(-1) == target).all()))
    assert outcome.language_loss.item() == pytest.approx(loss / weight, rel=2e-4)
    assert outcome.correct.tolist() == correct


def test_every_set_of_features_and_the_scorer_learn_from_an_answer() -> None:
    qa = video_qa()
    outcome = qa([example(1, 6)], Pruning(0.5, "ragged"))
    (outcome.language_loss + outcome.aux_loss).backward()
    connector = qa.model.connector
    for merger in (connector.merger, *connector.deep_mergers):
        assert float(merger.down.weight.grad.abs().sum()) > 0
    assert qa.model.scorer is not None
    assert all(float(weight.grad.abs().sum()) > 0 for weight in qa.model.scorer.parameters() if weight.ndim > 1)


SQUARE = Grid(image_size=(32, 32), patch_size=4, pool=2, frames=2, resampling="bicubic")


def labelled(frames: int) -> Example:
    """A clip in whose frames each a thing of another class stands, in a patch of its own."""
    classes = torch.zeros(frames, SQUARE.patches, dtype=torch.uint8)
    for frame in range(frames):
        classes[frame, 9 * (frame % 2)] = 1 + frame % 2
    pixels = torch.randint(0, 256, (frames, 32, 32, 3), generator=torch.Generator().manual_seed(frames))
    return Example(pixels.to(torch.uint8), np.arange(frames) / 2, QUESTIONS, classes)


def test_a_patch_shows_what_is_in_any_of_its_frames() -> None:
    shown = patch_classes_of(labelled(5), SQUARE)
    assert shown.shape == (3, SQUARE.patches)
    assert shown[:, [0, 9]].tolist() == [[1, 2], [1, 2], [1, 0]]  # the last of five stands for two
    keep = oracle_keep([labelled(5)], SQUARE, 0.5, (1,))
    assert keep.shape == (3, SQUARE.groups)
    assert keep[0].all()


def test_the_first_set_takes_the_words_and_the_others_are_drawn_to_nothing() -> None:
    model = Model(config(SQUARE))
    load_into(model, random_checkpoint(model.config, 3))
    words = word_targets(model.decoder, tokenizer(), ("background", "one", "two"), SQUARE, Words(joined="sum"))
    module = PatchClasses(model, 3, words)
    before = module([labelled(4)])
    for merger in model.connector.deep_mergers:
        torch.nn.init.zeros_(merger.down.weight)
        torch.nn.init.zeros_(merger.down.bias)
    after = module([labelled(4)])
    assert 0 < after.word_loss.item() < before.word_loss.item()
    assert after.class_loss.item() == pytest.approx(before.class_loss.item())


def test_it_is_trained_saved_as_it_is_released_and_evaluated(tmp_path: Path) -> None:
    run = ToyRun(tmp_path, "dense", "pruned")
    made = config_of("learned")
    recipe = write_toy_recipe(tmp_path / "qwen.toml", made)
    text = tmp_path / "tokenizer.json"
    text.write_text(tokenizer_text())
    random = {"model": str(recipe), "checkpoint": None, "random_weights": 3, "tokenizer": text}
    result = run.train(**random, save_model=True)
    assert [stage.finished for stage in result.stages] == [True, True]
    folder = tmp_path / "run" / "pruned" / "model"
    saved = open_checkpoint(folder, config())
    assert (saved.layout, saved.has_scorer) == ("qwen3_vl", True)
    load_into(Model(config()), saved)
    wanted = EvaluationRequest(
        str(folder),
        run.data,
        model=str(recipe),
        splits=("validation",),
        frames=(4,),
        fractions=(0.0, 0.5),
        one_frame=True,
    )
    found = evaluate(wanted, lambda _stage, _share: None)
    assert {one.setting.scorer for one in found.answers} >= {"dense", "one-frame", "learned", "cosine", "random"}
