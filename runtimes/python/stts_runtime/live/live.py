"""A window over frames that are pushed, and what the engines made of them: only what is new or stale is made again.

frame -> vision_score -> window -> plan of the stale frames -> vision_encode -> features of all -> a conversation

What is held of a frame lies in its slot of arrays that are made once: memory does not grow with the stream. Where a
model sees several frames as one temporal patch, these wait until they are as many; the window counts temporal patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Grid, Manifest
from stts_runtime.bundle.plain import argument
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.clip.frames import aspect_notes, check_frames, resize_frames
from stts_runtime.clip.video import Clip
from stts_runtime.conversation import Conversation, Host as Conversing
from stts_runtime.engine import Array
from stts_runtime.engine.memory import new_array
from stts_runtime.errors import UsageError
from stts_runtime.language.prompt import LONGEST_TIMESTAMP, MARKER_TOKENS, QUESTION_TOKENS
from stts_runtime.live.window import (
    MODES,
    Window,
    advance,
    check_time,
    kept_of,
    stale_frames,
    with_encoded,
    with_first_unbiased,
    with_room,
)
from stts_runtime.timings import Timings
from stts_runtime.vision.on_device import encode_groups
from stts_runtime.vision.plan import RaggedPlan, kept_groups, pack_ragged
from stts_runtime.vision.run import Vision, encode_plan, score_chunk


FRAMES = 32
"""Of a window, where the model's own sampling does not take fewer."""

ANSWER_TOKENS = 64
"""That are left to an answer where frames are settled."""


class Host(Conversing, Protocol):
    """What a live window asks of the session that it belongs to."""

    def prune_fraction(self, prune: float | None) -> float:
        """Return the prune fraction a call means."""

    def check_frame_limit(self, frames: int) -> None:
        """Raise LimitError if the bundle was built for fewer frames."""

    def check_token_limit(self, frames: int, prune_fraction: float, question: int = 0) -> None:
        """Raise LimitError if video and question have more tokens than a conversation may have."""


class Live:
    """Frames as they come, of which the last ones are looked at whenever somebody asks.

    Not for several threads at once: push and look from one, or take turns.

    Attributes:
        window: what is known of the frames that it holds.
        mode: see `live.window`.
        prune_fraction: the share of groups that is dropped.
    """

    def __init__(
        self,
        session: Host,
        *,
        frames: int | None = None,
        mode: str = "settled",
        prune: float | None = None,
        question: int = 0,
    ) -> None:
        """Return a window with no frame in it.

        Args:
            session: whose engines look.
            frames: most frames of the window; default 32, or as many as the model's own sampling takes at most.
            mode: `settled` or `exact`.
            prune: share of groups to drop, in (0, 1); default the bundle's.
            question: tokens of the longest question that will be asked.

        Raises:
            UsageError: the bundle cannot look at a stream, or a setting is impossible.
            LimitError: more frames, or more tokens, than the bundle was built for.
        """
        manifest = session.manifest
        self.prune_fraction = session.prune_fraction(prune)
        check_streams(manifest, self.prune_fraction)
        together, most = manifest.grid.frames, min(FRAMES, manifest.frame_sampling.max_frames, manifest.most_frames)
        frames = most // together * together if frames is None else argument(int, frames, "frames")
        if frames < 2 * together:
            raise UsageError(
                f"a window of {frames} frames cannot roll, wanted at least {2 * together}: of fewer, ask `look`"
            )
        if frames % together:
            raise UsageError(
                f"a window of {frames} frames: the model sees {together} frames as one, wanted a multiple of {together}"
            )
        size = frames // together
        if mode not in MODES:
            raise UsageError(f"mode is {mode!r}, wanted {' or '.join(MODES)}")
        session.check_frame_limit(frames)
        session.check_token_limit(frames, self.prune_fraction, question)
        self.mode = mode
        self.window = Window(size, self.prune_fraction, most_groups(manifest, size, self.prune_fraction, question))
        self._session = session
        self._timings = Timings()
        self._source_size = (0, 0)
        grid = manifest.grid
        self._pixels = np.empty((size, together, *grid.size, 3), np.uint8)
        self._times = np.zeros((size, together))
        self._waiting: list[tuple[NDArray[np.uint8], float]] = []  # frames of a temporal patch that is not whole yet
        spec, memory = manifest.graphs["vision_score"].spec, session.engine("vision_score").memory
        self._hidden = new_array(memory, spec.tensor("hidden"), size)
        self._state, self._last = (new_array(memory, spec.tensor(name)) for name in ("previous", "last"))
        memory.zero(self._state)
        self._no_state = new_array(memory, spec.tensor("previous"))
        memory.zero(self._no_state)
        self._unread = new_array(memory, spec.tensor("last"))  # a first frame's state, which is not carried on
        self._memory = session.engine("vision_encode").memory
        tensor = manifest.graphs["vision_encode"].spec.tensor("features")
        self._features = new_array(self._memory, tensor, size * grid.groups)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of the window's frames, oldest first, float64 [F]."""
        return self._times[self.window.slots].reshape(-1)

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait for others that the model sees as one with them."""
        return bool(self._waiting)

    @property
    def cut_frames(self) -> int:
        """How many of the window's frames keep fewer groups than their scores call for, for want of room."""
        return self._session.manifest.grid.frames * sum(one.is_cut for one in self.window.seen)

    def push(self, frame: NDArray[np.uint8], time: float) -> None:
        """Take a frame in: it is scored at once, and the oldest leaves a full window.

        Where the model sees several frames as one, it waits for the others first, and is not looked at until they came.

        Args:
            frame: uint8 [H, W, 3], RGB.
            time: seconds, on any clock that goes on evenly; the model is told those since the window's first frame.

        Raises:
            UsageError: it is no frame, or not later than those before it.
            EngineError: the engine failed, or a score is not finite; the frame is not taken in, and the oldest of a
                full window has made room for it.
        """
        frames = check_frames(frame[None] if isinstance(frame, np.ndarray) and frame.ndim == 3 else frame)
        time = argument(float, time, "time")
        grid = self._session.manifest.grid
        if len(frames) != 1:
            raise UsageError(f"frames are pushed one by one, uint8 [height, width, 3]; got {len(frames)}")
        last = self._waiting[-1][1] if self._waiting else self.times[-1] if self.window.seen else None
        check_time(last, time)
        # a copy, where it waits: who pushes may use the same array for the next frame
        waiting = [*self._waiting, (np.array(resize_frames(frames, grid.image_size, grid.resampling)[0]), time)]
        if len(waiting) == grid.frames:
            self._take(waiting)
            waiting = []
        self._waiting = waiting
        self._source_size = (frames.shape[2], frames.shape[1])

    def complete(self) -> None:
        """Take in frames that still wait for others, the last one in their place, as at the end of a file.

        Raises:
            EngineError: see `push`.
        """
        if self._waiting:
            lacking = self._session.manifest.grid.frames - len(self._waiting)
            self._take([*self._waiting, *self._waiting[-1:] * lacking])
            self._waiting = []

    def _take(self, patch: Sequence[tuple[NDArray[np.uint8], float]]) -> None:
        """Take a temporal patch into the window: its frames, of the grid's size, and their seconds."""
        frames, times = np.stack([frame for frame, _ in patch]), np.array([time for _, time in patch])
        self.window = window = with_room(self.window)  # what is held of the oldest is overwritten from here on
        slot = window.arrived % window.size
        scores = np.empty((1, self._session.manifest.grid.groups), np.float32)
        self._score(frames, slot, self._state, scores, self._last, is_first=not window.seen)
        self.window = advance(window, float(patch_times(times, len(times))[0]), scores[0])
        self._state, self._last = self._last, self._state
        self._pixels[slot], self._times[slot] = frames, times

    def vision(self, timings: Timings | None = None) -> Vision:
        """Return the features of the window's kept groups; those that are held and have not changed are not made again.

        Raises:
            UsageError: there is no frame yet.
            EngineError: an engine failed.
        """
        timings = Timings() if timings is None else timings
        manifest, grid, groups = self._session.manifest, self._session.manifest.grid, self._session.manifest.grid.groups
        if not self.window.seen:
            more = "" if grid.frames == 1 else f" The model sees {grid.frames} frames as one, so it wants as many."
            raise UsageError(f"no frame was pushed yet, so there is nothing to look at: push one first.{more}")
        if manifest.pruning.soft_bias and not self.window.seen[0].is_unbiased:
            self._make_first_unbiased(timings)
        with timings.stage("plan"):
            keep, slots = kept_of(self.window, self.mode), self.window.slots
            stale = stale_frames(self.window, keep)
            stale = stale[keep[stale].any(axis=1)]  # of frames with nothing kept there is nothing to make
            stale = stale[np.argsort(slots[stale])]  # plugins take groups in the order in which they lie
        timings.tokens["encoded_frames"] = len(stale) * grid.frames
        if len(stale):
            encoded = self._encoded(keep[stale], slots[stale], timings)
            rows = [slots[place] * groups + np.arange(keep[place].sum()) for place in stale]
            self._memory.copy_rows(self._features, np.concatenate(rows), encoded)
        self.window = with_encoded(self.window, keep)
        timings.tokens.update(
            frames=len(keep) * grid.frames,
            groups=keep.size,
            kept_groups=int(keep.sum()),
            patches=len(keep) * grid.patches,
        )
        return Vision(self._in_order(keep, slots), keep, self.window.scores)

    def look(self) -> Conversation:
        """Return a conversation about the frames that the window holds now, as `Session.look` does of a clip.

        Frames that are pushed later are not in it.

        Raises:
            UsageError: there is no frame yet.
            EngineError: an engine failed.
        """
        timings, self._timings = self._timings, Timings()
        vision = self.vision(timings)
        return Conversation(self._session, self.clip(), vision, self.prune_fraction, timings)

    def clip(self) -> Clip:
        """Return the window's frames, with the seconds since its first, as `Session.look` would take them."""
        times, together = self.times, self._session.manifest.grid.frames
        duration = float(times[-1] - times[0])
        numbers = np.array([one.number for one in self.window.seen], np.int64)
        return Clip(
            frames=self._pixels[self.window.slots].reshape(-1, *self._pixels.shape[2:]),
            timestamps=times - times[0],
            indices=(numbers[:, None] * together + np.arange(together)).reshape(-1),
            source_size=self._source_size,
            source_fps=(len(times) - 1) / duration if duration else self._session.manifest.frame_sampling.max_fps,
            source_frames=self.window.arrived * together,
            duration=duration,
            notes=aspect_notes(*self._source_size, self._session.manifest.grid.image_size),
        )

    def _score(
        self, frames: np.ndarray, slot: int, previous: Array, scores: np.ndarray, last: Array, is_first: bool
    ) -> None:
        gate = np.zeros(1, np.float32) if is_first else np.ones(1, np.float32)
        outputs = {"hidden": self._hidden[slot : slot + 1], "scores": scores, "last": last}
        engine, grid = self._session.engine("vision_score"), self._session.manifest.grid
        score_chunk(engine, frames, previous, gate, outputs, grid, self._timings)

    def _encoded(self, keep: NDArray[np.bool_], slots: NDArray[np.int64], timings: Timings) -> Array:
        """Return features of the kept groups `keep` [s, G] of frames in `slots`, int64 [s], rising."""
        manifest, engine = self._session.manifest, self._session.engine("vision_encode")
        if manifest.engine.has_plugins:
            order, ends = order_in_slots(keep, slots)
            return encode_groups(engine, self._hidden, order, ends, manifest, timings)
        with timings.stage("plan"):
            plan = in_slots(pack_ragged(keep, manifest.grid), slots, manifest.grid)
        return encode_plan(engine, self._hidden, plan, manifest, timings)

    def _make_first_unbiased(self, timings: Timings) -> None:
        slot = int(self.window.slots[0])
        before, self._timings = self._timings, timings
        scores = np.empty((1, self._session.manifest.grid.groups), np.float32)
        self._score(self._pixels[slot], slot, self._no_state, scores, self._unread, is_first=True)
        self._timings = before
        self.window = with_first_unbiased(self.window)

    def _in_order(self, keep: NDArray[np.bool_], slots: NDArray[np.int64]) -> Array:
        """Return features [K, d_model] of the kept groups, from the slots in the order of the frames."""
        groups, counts = keep.shape[1], keep.sum(axis=1)
        tensor = self._session.manifest.graphs["vision_encode"].spec.tensor("features")
        features = new_array(self._memory, tensor, int(counts.sum()))
        for slot, count, end in zip(slots.tolist(), counts.tolist(), np.cumsum(counts).tolist(), strict=True):
            if count:
                own = self._features[slot * groups : slot * groups + count]
                self._memory.copy_rows(features, np.arange(end - count, end), own)
        return features


def in_slots(plan: RaggedPlan, slots: NDArray[np.int64], grid: Grid) -> RaggedPlan:
    """Return a plan of s frames, whose hidden states lie in `slots`, int64 [s], of an array [W, N, D]."""
    frame, patch = np.divmod(plan.gather, grid.patches)
    return RaggedPlan(slots[frame] * grid.patches + patch, plan.cumulative_lengths, plan.readout)


def order_in_slots(keep: NDArray[np.bool_], slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what plugins take of the kept groups `keep` [s, G] of frames that lie in `slots`, int64 [s].

    Returns:
        order int64 [K], groups as `slot * G + group`; cumulative_groups int64 [s + 1], where each frame's lie in it.
    """
    frame, group = np.nonzero(keep)
    return slots[frame] * keep.shape[1] + group, np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int64)


def most_groups(manifest: Manifest, frames: int, prune_fraction: float, question: int) -> int:
    """Return how many groups may stay of settled frames: what is left of the bundle's tokens, at least `look`'s number.

    `look` keeps the same number whatever is seen; settled frames keep more of a window in which more and more happens.
    """
    text = QUESTION_TOKENS + question + ANSWER_TOKENS
    room = manifest.limits.max_tokens - text - frames * (MARKER_TOKENS + LONGEST_TIMESTAMP)
    return max(room, kept_groups(manifest.grid.groups, frames, prune_fraction))


def check_streams(manifest: Manifest, prune_fraction: float) -> None:
    """Raise UsageError unless a bundle can look at a stream frame by frame at this prune fraction."""
    pruning = manifest.pruning
    if pruning.is_dense or prune_fraction == 0:
        raise UsageError(
            "a stream is looked at pruned, frame by frame: wanted a bundle with a scorer, a share to prune above 0. "
            "Build it with --prune 0.5 --packing ragged and a scorer (cosine needs no training)"
        )
    if pruning.scorer == "random":
        raise UsageError(
            "the bundle prunes at random, by the number of a frame: in a window that rolls every number changes at "
            "each frame, and so would all that is kept. Build it with --scorer cosine or its own scorer"
        )
    if pruning.packing != "ragged":
        raise UsageError(
            f"the bundle is packed {pruning.packing}: frames share bins, so that a new one may change what others are "
            "packed with. Build it with --packing ragged, which a stream needs"
        )
