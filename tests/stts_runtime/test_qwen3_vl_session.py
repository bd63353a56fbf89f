"""A toy Qwen3-VL bundle, used as an application uses it: frames of any size to an answer, dense and pruned."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.decoding import grown_cache
from reference.qwen3_vl_bundle import GRID, LIMITS, clip, config_of, ours, theirs, tokenizer_text
from tokenizers import Tokenizer as Library
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from stts_export.models.decoder import feature_rows
from stts_export.models.model import Model
from stts_export.models.vision import run_vision
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime import Feed
from stts_runtime.bundle.open import open_bundle
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.clip.frames import patches_from_frames, resize_frames
from stts_runtime.conversation import check_video_tokens
from stts_runtime.errors import LimitError, UsageError
from stts_runtime.language.prompt import build_first_turn
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.language.rows import Rows
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.session import Session, load
from stts_runtime.verify.reference import reference_of
from stts_runtime.verify.report import PASSED


QUESTION, ANSWER = "What happens in the video?", 10
SIZE = (30, 50)  # which the processor makes a grid of 24 x 40 of, where it has pixels for no more
FPS = 2.0


@pytest.fixture(scope="module")
def session(qwen_bundle: Callable[[str], Path]) -> Iterator[Session]:
    with load(qwen_bundle("ragged")) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(qwen_bundle: Callable[[str], Path]) -> Model:
    return ours(qwen_bundle("ragged").parent / "checkpoint", "cosine")


def until_stop(answer: list[int], stop: tuple[int, ...]) -> list[int]:
    ends = [place for place, token in enumerate(answer) if token in stop]
    return answer[: ends[0]] if ends else answer


def their_answer(frames: np.ndarray, count: int) -> list[int]:
    """transformers' own way from frames to tokens: its processor, then its model."""
    area = -(-len(frames) // 2) * 2 * GRID.size[0] * GRID.size[1]
    video = Qwen3VLVideoProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": area}, cap_pixels_per_frame=False
    )
    library = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenizer_text()), pad_token="<|im_end|>")
    processor = Qwen3VLProcessor(Qwen2VLImageProcessor(patch_size=4, merge_size=2), library, video)
    given = processor(
        text=[f"<|im_start|>user\n<|video_pad|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n"],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[{"fps": FPS, "total_num_frames": len(frames), "frames_indices": list(range(len(frames)))}],
        do_sample_frames=False,
        return_tensors="pt",
    )
    assert given["video_grid_thw"].tolist() == [[-(-len(frames) // 2), GRID.rows, GRID.columns]]
    wanted = {"input_ids", "attention_mask", "pixel_values_videos", "video_grid_thw", "mm_token_type_ids"}
    inputs = {name: tensor for name, tensor in given.items() if name in wanted}
    with torch.no_grad():
        out = theirs().model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize(("count", "seed"), [(4, 0), (7, 1), (5, 2)])
@pytest.mark.parametrize("kind", ["dense", "ragged"])
def test_dense_answers_are_the_greedy_tokens_of_transformers(
    qwen_bundle: Callable[[str], Path], kind: str, count: int, seed: int
) -> None:
    frames = clip(count, seed, SIZE)
    wanted = their_answer(frames, ANSWER)
    assert len(set(wanted)) > 2
    with load(qwen_bundle(kind)) as opened:
        conversation = opened.look(frames, fps=FPS, prune=0.0)
        conversation.ask(QUESTION, max_tokens=ANSWER)
        assert conversation.answer_ids == until_stop(wanted, opened.manifest.tokens.stop)


@torch.no_grad()
def our_answer(model: Model, frames: np.ndarray, prune: float, count: int) -> list[int]:
    """The torch model's tokens, pruned, with a decoder that is driven by hand."""
    config, tokens = model.config, model.config.tokens
    pictures = resize_frames(frames, GRID.image_size, "bicubic")
    patches = torch.from_numpy(patches_from_frames(pictures, GRID))
    result = run_vision(model, patches, prune_fraction=prune, packing="ragged", soft_bias=False)
    times, keep = patch_times(np.arange(len(frames)) / FPS, 2), result.keep.numpy()
    tokenizer = Tokenizer(Library.from_str(tokenizer_text()))
    turn = build_first_turn(tokenizer, config.prompt, tokens, times, keep.sum(axis=1), QUESTION)
    positions, following = rope_positions(turn.token_ids, tokens, keep, GRID)
    ids, features, turned = torch.from_numpy(turn.token_ids)[None], result.features, torch.from_numpy(positions)
    cache, start, said = model.decoder.empty_cache(), 0, []
    while len(said) < count:
        end = start + ids.shape[1]
        order, slots = torch.arange(start, end), torch.arange(end)
        rows, flags = feature_rows(ids, tokens.image_patch), torch.zeros(end, dtype=torch.bool)
        logits, new = model.decoder(ids, features, rows, order, slots, flags, cache, rope_positions=turned)
        cache, said = grown_cache(cache, new), [*said, int(logits[0].argmax())]
        ids, start, turned = torch.tensor([said[-1:]]), end, torch.full((3, 1), following)
        following += 1
    return said


@pytest.mark.parametrize(("count", "prune"), [(8, 0.5), (7, 0.3), (11, 0.7)])
def test_pruned_answers_are_the_torch_models(session: Session, model: Model, count: int, prune: float) -> None:
    frames = clip(count, count, SIZE)
    wanted = our_answer(model, frames, prune, ANSWER)
    conversation = session.look(frames, fps=FPS, prune=prune)
    conversation.ask(QUESTION, max_tokens=ANSWER)
    assert conversation.answer_ids == until_stop(wanted, session.manifest.tokens.stop)
    assert conversation.timings.tokens["frames"] == count
    assert conversation.timings.tokens["patches"] == -(-count // 2) * GRID.patches


def test_a_turn_that_follows_stands_behind_the_first_on_all_axes(session: Session) -> None:
    """Two turns read one after the other say what the same turns say that are recalled, and read beside another."""
    frames = clip(8, 3, SIZE)
    asked = session.look(frames, fps=FPS)
    first = asked.ask(QUESTION, max_tokens=4)
    offset = asked.decoding.rope_offset
    assert offset != 0
    asked.ask("Where?", max_tokens=6)
    assert asked.decoding.rope_offset == offset
    recalled = session.look(frames, fps=FPS)
    recalled.recall(QUESTION, first)
    recalled.ask("Where?", max_tokens=6)
    if asked.length == recalled.length:  # the answer's text may be spelled by other tokens
        assert asked.answer_ids == recalled.answer_ids
    other = session.look(frames, fps=FPS)
    other.ask(QUESTION, max_tokens=4)
    headed = type(other)(session, other.clip, other.vision, other.prune_fraction, other.timings, other.head())
    assert headed.ask(QUESTION, max_tokens=4) == first


def test_conversations_decoded_together_say_what_they_say_alone(session: Session) -> None:
    """Each row is turned by where its own frames have put it, which is not its place."""
    alone, together = [], []
    for count in (8, 4):
        conversation = session.look(clip(count, count, SIZE), fps=FPS)
        conversation.ask(QUESTION, max_tokens=5)
        alone.append(conversation.answer_ids)
        again = session.look(clip(count, count, SIZE), fps=FPS)
        steps = again.steps(QUESTION)
        next(steps)
        together.append((again, steps))
    rows = Rows(session.engine("decoder_rows"), session.manifest)
    for _ in range(4):
        logits = rows.step([conversation.decoding for conversation, _ in together])
        for row, (_, steps) in enumerate(together):
            steps.send(logits[row])
    assert [conversation.answer_ids[:5] for conversation, _ in together] == alone


@pytest.mark.parametrize("kind", ["ragged", "ffd", "dense"])
def test_the_ladder_passes(qwen_bundle: Callable[[str], Path], kind: str) -> None:
    bundle = open_bundle(qwen_bundle(kind))
    report = verify_bundle(bundle, reference_of(bundle))
    found = [(one.part, compared.verdict) for one in report.results for compared in one.comparisons]
    assert len(found) > 30
    assert report.ok, report.verdict
    assert {verdict for _, verdict in found} == {PASSED}


def test_more_frames_than_the_bundle_was_built_for_are_refused(session: Session) -> None:
    most = LIMITS.max_frames * GRID.frames
    with pytest.raises(LimitError, match=f"the clip has {most + 1} frames, the bundle was built for at most {most}:"):
        session.read(clip(most + 1))
    assert len(session.read(clip(most)).frames) == most


def test_more_frames_than_the_model_has_positions_for_are_refused(session: Session) -> None:
    manifest = session.manifest
    few = replace(manifest, decoder=replace(manifest.decoder, max_positions=21))
    check_video_tokens(few, 4, 0.9, 0)
    with pytest.raises(LimitError, match="6 frames of 3 x 5 groups take at least 21 positions, however many are"):
        check_video_tokens(few, 6, 0.9, 0)


@pytest.mark.parametrize("count", [4, 9, 11])
def test_a_stream_is_a_look_at_its_last_frames_two_at_a_time(session: Session, count: int) -> None:
    """At a window of three temporal patches; the last frame of an odd number waits for another, or stands for two."""
    frames = clip(count, 3, GRID.size)
    live, camera = session.live(frames=6, mode="exact"), np.empty_like(frames[0])
    for number, frame in enumerate(frames):
        camera[...] = frame  # one array for all
        live.push(camera, 50 + number / FPS)

    def check(seen: np.ndarray) -> None:
        found = live.look()
        wanted = session.look(replace(session.read(seen, fps=None), timestamps=found.clip.timestamps))
        assert np.array_equal(found.clip.frames, wanted.clip.frames)
        assert np.array_equal(found.vision.keep, wanted.vision.keep)
        np.testing.assert_allclose(found.vision.features, wanted.vision.features, atol=1e-5)
        assert found.ask(QUESTION, max_tokens=4) == wanted.ask(QUESTION, max_tokens=4)

    whole = count // 2 * 2
    check(frames[:whole][-6:])
    assert live.times.tolist() == pytest.approx([50 + number / FPS for number in range(whole)][-6:])
    live.complete()
    check(np.concatenate([frames, frames[-1:]])[-6:] if count % 2 else frames[-6:])


def test_a_window_counts_frames_and_holds_whole_patches(session: Session) -> None:
    live = session.live()
    assert live.window.size == LIMITS.max_frames
    live.push(clip(1)[0], 0.0)
    with pytest.raises(UsageError, match=r"push one first\. The model sees 2 frames as one, so it wants as many"):
        live.look()
    with pytest.raises(UsageError, match=r"a frame of 0 s came behind one of 0 s"):
        live.push(clip(1)[0], 0.0)
    with pytest.raises(
        UsageError, match="a window of 5 frames: the model sees 2 frames as one, wanted a multiple of 2"
    ):
        session.live(frames=5)
    with pytest.raises(UsageError, match="a window of 2 frames cannot roll, wanted at least 4"):
        session.live(frames=2)


@pytest.mark.parametrize(
    ("every", "told"), [(1.0, [1.5, 2.5, 3.5, 4.0]), (2.0, [2.5, 4.0]), (0.5, [0.5, 1.5, 2.5, 3.5, 4.0])]
)
def test_a_window_is_asked_about_once_when_its_frames_are_whole(session: Session, every: float, told: list) -> None:
    feed, frames = Feed("door"), clip(9, 3, SIZE)
    with session.watch(feed, ask=QUESTION, every=every, frames=6, fps=FPS, max_tokens=1) as watch:
        source, answers = watch.sources[0], []
        for number, frame in enumerate(frames):
            feed.push(frame, number / FPS)
            source.take()
            if source.is_due:
                answers.append(source.ask())
        feed.end()
        answers += list(watch)
    assert [answer.time for answer in answers] == pytest.approx(told)
    assert all(answer.interval is None or answer.interval > 0 for answer in answers)
    assert answers[-1].frames == answers[-1].tokens["frames"] == 6


@pytest.mark.parametrize("count", [1, 5])
def test_what_waits_when_a_stream_ends_is_asked_about(session: Session, count: int) -> None:
    feed = Feed("door")
    with session.watch(feed, ask=QUESTION, every=60.0, frames=6, fps=FPS, max_tokens=2) as watch:
        for number, frame in enumerate(clip(count, 3, SIZE)):
            while feed._waiting is not None:
                watch.sources[0].take()
            feed.push(frame, number / FPS)
        feed.end()
        (answer,) = watch
    assert (answer.time, answer.frames) == ((count - 1) / FPS, count + 1)


def test_a_single_frame_is_seen_twice(session: Session) -> None:
    one = session.look(clip(1, 0, SIZE))
    two = session.look(np.repeat(clip(1, 0, SIZE), 2, axis=0))
    assert np.array_equal(one.vision.features, two.vision.features)
    assert one.vision.keep.shape == (1, GRID.groups)


def test_the_bundle_says_what_its_model_is(session: Session) -> None:
    decoder, config = session.manifest.decoder, config_of()
    assert (decoder.feature_sets, decoder.causal, decoder.rope_axes) == (4, True, 3)
    assert decoder.max_positions == config.decoder.max_positions
    assert session.manifest.grid == GRID
