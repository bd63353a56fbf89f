"""Record a reference: the runtime's own flow over the torch model on the synthetic clip, each run of a part kept.

clip -> vision_score (in two chunks at least) -> plan -> vision_encode -> prompt -> prefill -> decode
image -> vision_image -> prompt -> prefill -> decode
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.parts import Part, parts_of
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import roundings_of
from stts_export.quantise.scaling import FILE, read_scales
from stts_export.recipe.config import ModelConfig
from stts_export.verify.clip import synthetic_clip, synthetic_image
from stts_export.verify.cut import widest_gap
from stts_export.verify.recorder import Recorder
from stts_export.verify.torch_part import torch_manifest
from stts_runtime.bundle.manifest import Cropping, Grid, Limits, Manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plain import from_plain
from stts_runtime.clip.crops import cut_image
from stts_runtime.clip.images import Images
from stts_runtime.clip.video import clip_from_frames
from stts_runtime.engine import Array
from stts_runtime.engine.memory import new_array
from stts_runtime.errors import BundleError
from stts_runtime.foreign import foreign_errors
from stts_runtime.language.generation import Decoding
from stts_runtime.language.kv_cache import EMPTY_POSITION, PAST, new_name
from stts_runtime.language.prompt import (
    LONGEST_TIMESTAMP,
    build_first_turn,
    first_turn,
    image_ids,
    image_pieces,
    made_up_turn,
    video_tokens,
    vision_flags,
)
from stts_runtime.language.tokenizer import open_tokenizer
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.timings import Timings
from stts_runtime.verify.reference import (
    CROPS,
    FRAMES,
    IMAGE,
    IMAGE_FEATURES,
    IMAGE_LOGITS,
    KEEP,
    REFERENCE_SCHEMA,
    SCORES,
    Answer,
    Reference,
    ReferenceInfo,
)
from stts_runtime.vision.on_device import encode_groups, runs_of_frames, select_groups
from stts_runtime.vision.plan import Plan
from stts_runtime.vision.run import (
    dense_vision,
    encode_plan,
    frames_between,
    image_vision,
    plan_groups,
    score_frames,
)


QUESTION = "What moves in this video, and which way does it go?"
IMAGE_QUESTION = "What is in this image, and where?"
FRAME_COUNT = 6
GREEDY_TOKENS, IMAGE_GREEDY_TOKENS = 12, 4
# The recorded decode step: caches are large, and where they are cut is of no matter. Some slots are empty, as mostly.
DECODE_SLOTS, DECODE_TOKENS = 64, 60
OTHER_TOKENS = 128  # of question and template


def record_reference(
    config: ModelConfig,
    checkpoint: Checkpoint,
    manifest: Manifest,
    tokenizer: Path | None = None,
    on_progress: OnProgress = no_progress,
) -> Reference:
    """Return what the torch model computes on the synthetic clip.

    Memory: the weights of one part at a time in float32, and what its forward takes for six frames.

    Args:
        config: the model, with the scorer that the bundle has.
        checkpoint: its weights.
        manifest: the bundle's, of which graphs and files need not be there yet; frames and tokens stay within its
            limits.
        tokenizer: the tokenizer's file; without it, token ids are made up.
        on_progress: told how far it is.

    Raises:
        CheckpointError: a tensor cannot be read.
        VerificationError: the model itself gives NaN.
    """
    limits, pruning = manifest.limits, manifest.pruning
    plugins = manifest.engine.has_plugins
    kv_cache = manifest.engine.kv_cache
    made = parts_of(weightless_model(config), config, limits, pruning.packing, plugins=plugins, kv_cache=kv_cache)
    parts = {part.spec.name: part for part in made}
    manifest = torch_manifest(manifest, parts.values())
    recorder, timings = Recorder(checkpoint), Timings()
    count = clip_frames(config.grid, limits)
    frames = synthetic_clip(config.grid.image_size, odd_frames(count, config.grid))
    chunks = clip_chunks(count, limits)
    names = [f"frames {first} to {last - 1}" for first, last in chunks]
    in_chunks = replace(manifest, limits=replace(limits, chunk_frames=chunks[0][1]))
    recorder.arrays[FRAMES] = frames
    fraction, gap = 0.0, None
    on_progress("record", 0.0)
    if pruning.is_dense:
        with recorder.engine(parts["vision_dense"], names) as engine:
            vision = dense_vision(engine, frames, in_chunks, timings)
        features, keep = vision.features, vision.keep
    else:
        with recorder.engine(parts["vision_score"], names) as engine:
            hidden, scores = score_frames(engine, frames, in_chunks, timings)
        fraction, gap = widest_gap(scores, pruning.fraction)
        keep, plan = plan_groups(scores, fraction, manifest, timings)
        recorder.arrays |= {SCORES: scores, KEEP: keep}
        on_progress("record", 0.2)
        if manifest.engine.has_plugins:
            features = record_encoding_on_device(recorder, parts, manifest, hidden, scores, keep)
        else:
            with recorder.engine(parts["vision_encode"], encode_names(plan, limits), shared="hidden") as engine:
                features = encode_plan(engine, hidden, plan, manifest, timings)
        on_progress("record", 0.4)
        with recorder.engine(parts["vision_dense"], names) as engine:  # a by-product here: one chunk will do
            dense_vision(engine, frames_between(frames, *chunks[0], config.grid), in_chunks, timings)
    about_image = None
    if config.image is not None:
        about_image = record_image(recorder, parts["vision_image"], manifest, config.image, tokenizer)
    on_progress("record", 0.6)
    question, ids = prompt_ids(config, frames, keep, tokenizer)
    asked = Asked(question, ids, features, keep)
    answer, image = record_decoder(recorder, parts, manifest, asked, about_image, on_progress)
    answer = replace(answer, prune_fraction=fraction, score_gap=gap)
    source = f"torch, {config.name} ({checkpoint.layout} weights)"
    info = ReferenceInfo(REFERENCE_SCHEMA, source, tuple(recorder.runs), answer, image)
    return Reference(info, recorder.arrays)


def record_encoding_on_device(
    recorder: Recorder,
    parts: Mapping[str, Part],
    manifest: Manifest,
    hidden: Array,
    scores: NDArray[np.float32],
    keep: NDArray[np.bool_],
) -> Array:
    """Record the selection and the encoding of a bundle with plugins; return the features."""
    with recorder.engine(parts["vision_select"], ["clip"]) as engine:
        order, cumulative_groups = select_groups(engine, scores, int(keep.sum()), manifest)
    assert np.array_equal(np.asarray(order), np.flatnonzero(keep)), "operator and host's plan select other groups"
    room = parts["vision_encode"].spec.dim("K").maximum
    runs = runs_of_frames(np.asarray(cumulative_groups), room)
    names = [f"frames {first} to {last - 1}" for first, last in runs]
    with recorder.engine(parts["vision_encode"], names, shared="hidden") as engine:
        return encode_groups(engine, hidden, order, cumulative_groups, manifest, Timings())


def model_of(bundle: Bundle) -> ModelConfig:
    """Return the configuration of a bundle's model.

    Raises:
        BundleError: the manifest does not hold one.
    """
    return from_plain(ModelConfig, bundle.manifest.model, f"{bundle.path.name}: manifest.json: model")


def scales_of(bundle: Bundle) -> dict[str, Tensor]:
    """Return what a bundle's weights were scaled by before they were rounded; nothing where they were not.

    Raises:
        BundleError: the file is damaged.
    """
    if not any(entry.path == FILE for entry in bundle.manifest.files):
        return {}
    file = bundle.file(FILE)
    with foreign_errors(lambda reason: BundleError(f"{file} is damaged ({reason}): build the bundle again")):
        return read_scales(file)


def record_bundle(
    bundle: Bundle, config: ModelConfig, checkpoint: Checkpoint, on_progress: OnProgress = no_progress
) -> Reference:
    """Return a reference recorded anew, for a bundle that was built without one.

    Args:
        bundle: the bundle.
        config: its model, see `model_of`.
        checkpoint: the weights it was built from.
        on_progress: told how far it is.

    Raises:
        CheckpointError: the weights do not fit the bundle's model.
    """
    manifest = bundle.manifest
    tokenizer = bundle.file(manifest.tokenizer) if manifest.tokenizer else None
    rounded = as_rounded(checkpoint, roundings_of(manifest.engine, config))
    return record_reference(config, rounded, manifest, tokenizer, on_progress)


def clip_frames(grid: Grid, limits: Limits) -> int:
    """Return how many temporal patches are recorded: six, or as many as the bundle's limits allow without pruning."""
    fitting = (limits.max_tokens - OTHER_TOKENS - GREEDY_TOKENS) // video_tokens(grid.groups, 1, LONGEST_TIMESTAMP)
    return max(1, min(FRAME_COUNT, limits.max_frames, fitting))


def odd_frames(count: int, grid: Grid) -> int:
    """Return the frames of so many temporal patches, of which the last lacks one where it has several."""
    return count * grid.frames - (1 if grid.frames > 1 else 0)


def clip_chunks(frames: int, limits: Limits) -> list[tuple[int, int]]:
    """Return (first, one past last) of the chunks of frames that are run: two at least, where there are two frames."""
    size = max(1, min(limits.chunk_frames, -(-frames // 2)))
    return [(first, min(first + size, frames)) for first in range(0, frames, size)]


def encode_names(plan: Plan, limits: Limits) -> list[str]:
    """Return the names of the runs of vision_encode: those of its chunks that have something to say."""
    size = limits.chunk_frames
    chunks = [(first, min(first + size, plan.pieces)) for first in range(0, plan.pieces, size)]
    return [f"{plan.unit} {first} to {last - 1}" for first, last in chunks if len(plan.chunk(first, last)[1])]


def prompt_ids(
    config: ModelConfig, frames: NDArray[np.uint8], keep: NDArray[np.bool_], tokenizer: Path | None
) -> tuple[str | None, NDArray[np.int64]]:
    """Return the question, None without a tokenizer, and the prompt's token ids."""
    kept = keep.sum(axis=1).tolist()
    if tokenizer is None:
        return None, made_up_turn(config.prompt, config.tokens, config.decoder.vocabulary, kept).token_ids
    clip = clip_from_frames(frames, config.frame_sampling, size=config.grid.image_size)
    _, times = clip.patches(config.grid.frames)
    turn = build_first_turn(open_tokenizer(tokenizer), config.prompt, config.tokens, times, kept, QUESTION)
    return QUESTION, turn.token_ids


def record_image(
    recorder: Recorder, part: Part, manifest: Manifest, cropping: Cropping, tokenizer: Path | None
) -> Asked | None:
    """Record the look at an image of several crops, whose groups reach over them; return what is asked about it.

    None where a conversation has no room for it.
    """
    image = synthetic_image(manifest.grid.image_size)
    cut = cut_image(image, manifest.grid, cropping)
    recorder.arrays |= {IMAGE: image, CROPS: cut.crops}
    with recorder.engine(part, ["image"]) as engine:
        vision = image_vision(engine, Images((cut,), (image.shape[1::-1],)), manifest, Timings())
    seen = image_pieces(manifest.tokens, [cut.layout], cropping)
    if len(seen) + OTHER_TOKENS + IMAGE_GREEDY_TOKENS > manifest.limits.max_tokens:
        return None
    recorder.arrays[IMAGE_FEATURES] = np.asarray(vision.features)
    if tokenizer is None:
        return Asked(None, image_ids(manifest.tokens, seen), vision.features, vision.keep)
    turn = first_turn(open_tokenizer(tokenizer), manifest.prompt, manifest.tokens, seen, IMAGE_QUESTION)
    return Asked(IMAGE_QUESTION, turn.token_ids, vision.features, vision.keep)


@dataclass(frozen=True)
class Asked:
    """A first turn: the question, None without a tokenizer, the prompt's ids, and what its placeholders are given."""

    question: str | None
    ids: NDArray[np.int64]
    features: Array
    keep: NDArray[np.bool_]  # the groups that these are of

    def answer(self, greedy: tuple[tuple[int, ...], tuple[float, ...]]) -> Answer:
        """Return what was said, where nothing was pruned."""
        return Answer(0.0, None, self.question, tuple(self.ids.tolist()), *greedy)


def record_decoder(
    recorder: Recorder,
    parts: Mapping[str, Part],
    manifest: Manifest,
    asked: Asked,
    about_image: Asked | None,
    on_progress: OnProgress,
) -> tuple[Answer, Answer | None]:
    """Record a prefill and decode steps, of one and of two, about the clip; return what is said of clip and image."""

    def room_for(tokens: int) -> Manifest:
        return replace(manifest, limits=replace(manifest.limits, max_tokens=tokens))

    def tell(share: float) -> None:
        on_progress("record", 0.6 + 0.4 * share)

    part, ids = parts["decoder"], asked.ids
    flags, text = vision_flags(ids, manifest.tokens), np.zeros(1, bool)
    with recorder.engine(part, ("prefill", "decode")) as engine:
        decoding, short = Decoding(engine, room_for(len(ids) + GREEDY_TOKENS)), Decoding(engine, room_for(DECODE_SLOTS))
        logits = decoding.read(ids, flags, asked.features, asked.keep)
        past = decoding.own_cache.past()
        short.own_cache.append(
            flags[:DECODE_TOKENS],
            {new_name(tensor): past[tensor.name] for tensor in part.spec.inputs if tensor.name.startswith(PAST)},
        )
        short.rope_offset = decoding.rope_offset
        held, cached = short.own_cache.length, {name: np.array(array) for name, array in short.own_cache.past().items()}
        following = int(logits.argmax())
        short.read(np.array([following]), text)
        answer, image = asked.answer(greedy_tokens(decoding, logits, GREEDY_TOKENS, tell)), None
        if about_image is not None:
            decoding = Decoding(engine, room_for(len(about_image.ids) + IMAGE_GREEDY_TOKENS))
            flags = vision_flags(about_image.ids, manifest.tokens)
            logits = decoding.read(about_image.ids, flags, about_image.features, about_image.keep)
            recorder.arrays[IMAGE_LOGITS] = logits[None]
            greedy = greedy_tokens(decoding, logits, IMAGE_GREEDY_TOKENS, lambda _: tell(1.0))
            image = about_image.answer(greedy)
    if "decoder_rows" in parts:
        record_rows(recorder, parts["decoder_rows"], cached, held, following, short.rope_offset)
    return answer, image


def greedy_tokens(
    decoding: Decoding, logits: NDArray[np.float32], count: int, tell: Callable[[float], None]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the likeliest tokens, one after the other, and how far each was ahead, from the first one's logits on."""
    tokens: list[int] = []
    gaps: list[float] = []
    for place in range(count):
        if place > 0:
            logits = decoding.read(np.array(tokens[-1:]), np.zeros(1, bool))
        second, first = np.partition(logits, -2)[-2:]
        tokens.append(int(logits.argmax()))
        gaps.append(float(first - second))
        tell((place + 1) / count)
    return tuple(tokens), tuple(gaps)


def record_rows(
    recorder: Recorder, part: Part, cached: Mapping[str, NDArray], held: int, following: int, rope_offset: int
) -> None:
    """Record a step of two conversations: all of a cache's `held` tokens and two thirds of them, then a token."""
    lengths = np.array([held, held * 2 // 3])
    slots = np.arange(len(cached["past_positions"]))
    inputs = {
        "token_ids": np.full((2, 1), following),
        "positions": lengths,
        "rope_positions": lengths + rope_offset,
        "past_positions": np.where(slots < lengths[:, None], slots, EMPTY_POSITION),
        **{name: np.concatenate((array, array)) for name, array in cached.items() if name.startswith(PAST)},
    }
    with recorder.engine(part, ["two rows"]) as engine:
        spec = part.spec
        outputs = {one.name: new_array(engine.memory, one, 2) for one in spec.outputs}
        engine.run(inputs, outputs)
