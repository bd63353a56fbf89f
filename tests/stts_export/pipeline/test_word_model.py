"""A model assembled from a seed and a list of words: built, verified and asked, and what it says it does not know."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from reference.word_model import ship_ones, with_trained, word_recipe, write_word_recipe

from stts_export.bundle.summary import bundle_summary
from stts_export.graph.capture import Capture
from stts_export.pipeline import BuildRequest, build
from stts_export.pipeline.request import resolve
from stts_runtime import Session, load
from stts_runtime.bundle.manifest import Pruning


Looked = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, captured: Capture) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTS_EXPORT_CACHE", str(folder / "cache"))
        request = BuildRequest(str(write_word_recipe(folder)), folder / "worded.stts", max_frames=4, chunk_frames=2)
        path = build(request, capture=captured)
    with load(path, check=True) as session:
        yield session


def frames(count: int) -> np.ndarray:
    """`count` frames uint8 [T, 48, 48, 3] of noise."""
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)


def test_it_is_built_as_its_recipe_says_and_agrees_with_torch(session: Session) -> None:
    manifest = session.manifest
    assert manifest.pruning == Pruning(0.5, "learned", soft_bias=True, packing="ragged", trained_fractions=None)
    folder = session._bundle.path
    report = json.loads((folder / "verify" / "report.json").read_text())
    assert report["ok"]
    assert "packed ragged" in str(bundle_summary(folder)["pruning"])
    assert manifest.decoder.vocabulary == 13


def test_a_question_in_its_own_words_has_no_note(session: Session) -> None:
    conversation = session.look(frames(3), fps=2.0)
    conversation.ask("What COLOUR moves?", max_tokens=64)
    assert not [note for note in conversation.notes if "unknown" in note]


def test_words_that_the_model_does_not_know_are_named_once_and_it_answers_all_the_same(session: Session) -> None:
    conversation = session.look(frames(2), fps=2.0)
    for _ in range(2):
        conversation.ask("What colour has the Elephant, the red one?", max_tokens=4)
    said = [note for note in conversation.notes if "unknown" in note]
    assert len(said) == 1
    assert said[0].startswith(
        "'has', 'the', 'Elephant', ',' and 'one' are unknown to this model, which has a vocabulary"
    )
    conversation.ask("What elephant?", max_tokens=4)
    assert conversation.notes[-2 if "cut" in conversation.notes[-1] else -1].startswith("'elephant' is unknown to this")


def test_times_that_the_model_does_not_know_are_said_once_a_clip(session: Session) -> None:
    conversation = session.look(frames(4), fps=2.0)  # 0.0, 0.5, 1.0 and 1.5
    assert conversation.clip.timestamps.tolist() == [0.0, 0.5, 1.0, 1.5]
    for _ in range(2):
        conversation.ask("What moves?", max_tokens=2)
    said = [note for note in conversation.notes if "times" in note]
    assert len(said) == 1
    assert said[0].startswith("the times of 1 of 4 frames (1.5 s) are unknown to this model: ")


def test_a_long_list_of_unknown_words_is_cut_short(session: Session) -> None:
    conversation = session.look(frames(2), fps=2.0)
    conversation.ask("a b c d e f g red", max_tokens=2)
    assert any(note.startswith("'a', 'b', 'c', 'd', 'e' and 2 more are unknown") for note in conversation.notes)


def test_a_bundle_of_drawn_weights_says_nothing_of_training_and_one_of_trained_weights_does(tmp_path: Path) -> None:
    def pruning(**options: object) -> Pruning:
        request = BuildRequest(str(tmp_path / "worded.toml"), tmp_path / "worded.stts", **options)  # type: ignore[arg-type]
        return resolve(request, lambda stage, share: None).pruning

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTS_EXPORT_CACHE", str(tmp_path / "cache"))
        shipped = ship_ones(tmp_path / "shipped", word_recipe(tmp_path))
        assert pruning().trained_fractions is None
        write_word_recipe(tmp_path, with_trained(shipped))
        assert pruning() == Pruning(0.5, "learned", True, "ragged", (0.5, 0.5))
        assert pruning(packing="ffd").packing == "ffd"
        assert pruning(prune=0) == Pruning(0.0, "none", False, "none", (0.5, 0.5))
        assert pruning(random_weights=1).trained_fractions is None
        fractions = ("prune_fraction = 0.5", "prune_fraction = 0.5\ntrained_fractions = [0.0, 0.8]")
        write_word_recipe(tmp_path, with_trained(shipped), fractions)
        assert pruning().trained_fractions == (0.0, 0.8)
