"""A bundle in use: the one file that knows the order of the engines.

clip -> vision_score -> plan -> vision_encode, or images -> vision_image; -> prompt -> prefill -> decode -> text
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.check import check_part, check_parts
from stts_runtime.bundle.locate import locate_bundle
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import Bundle, check_unchanged, open_bundle
from stts_runtime.bundle.plain import argument
from stts_runtime.clip.images import Images
from stts_runtime.clip.video import Clip, clip_from_frames, read_video
from stts_runtime.conversation import Conversation, check_frames_of_clip, check_video_tokens
from stts_runtime.engine import Engine, Opener, SharedMemory, open_engine
from stts_runtime.engine.packed import find_packed
from stts_runtime.errors import BundleError, UsageError
from stts_runtime.images import are_meant, images_for, look_at_images
from stts_runtime.language.generation import generation_from
from stts_runtime.language.prompt import check_question, check_tokens
from stts_runtime.language.tokenizer import Tokenizer, open_tokenizer
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.timings import Timings
from stts_runtime.vision.on_device import PARTS as PARTS_ON_DEVICE, vision_on_device
from stts_runtime.vision.plan import prune_fraction
from stts_runtime.vision.run import Vision, dense_vision, encode_plan, plan_groups, score_frames


if TYPE_CHECKING:
    from stts_runtime.live.live import Live
    from stts_runtime.live.watch import Watch

Video = str | Path | NDArray[np.uint8] | Clip
"""A video file, frames uint8 [T, H, W, 3], or a clip read before."""

Seen = Video | Images | Sequence[Any]
"""A video; or images: one (a file with a still picture, uint8 [H, W, 3], a Pillow image), or several in a list."""


def load(path: str | Path, *, check: bool = False) -> Session:
    """Return the bundle at `path`, ready to be asked.

    Args:
        path: a bundle directory; or, as text, `ORG/NAME[@REVISION]`, which is fetched from a hub where no such path is.
        check: compare every file with its digest before anything is opened.

    Raises:
        BundleError: the bundle is damaged, unsafe, or written for a newer runtime.
        UsageError: `path` is neither a path nor a name.
        HubError: what is named cannot be fetched.
        EngineError: the bundle is for a GPU, and does not fit this device; says what to do.
    """
    session = Session(open_bundle(locate_bundle(path), check=check))
    check_parts(session.manifest)
    session.check_device()
    return session


class Session:
    """A loaded bundle. Engines open when they are first used and stay open until `close`.

    Attributes:
        notes: what may go wrong on this device and need not, one sentence each.
    """

    def __init__(self, bundle: Bundle, opener: Opener = open_engine) -> None:
        """Hold a bundle; nothing is opened yet.

        Args:
            bundle: from `open_bundle`.
            opener: what makes an engine of a part; another one lets something else than the bundle's engines answer.
        """
        self._bundle, self._opener = bundle, opener
        self._engines: dict[str, Engine] = {}
        self._opening = {part: Lock() for part in bundle.manifest.graphs}  # of threads that want one engine, one opens
        self._is_closed = False
        self._memory = SharedMemory()
        self._tokenizer: Tokenizer | None = None
        self._device_is_checked = False
        self.notes: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            UsageError: the bundle was built without one, or the session was closed.
            BundleError: it cannot be read, lacks a token that the prompt needs, or another bundle came in its place.
        """
        self._check_open()
        if self._tokenizer is None:
            file = self._bundle.tokenizer()
            check_unchanged(self._bundle)
            tokenizer = open_tokenizer(file)
            check_tokens(tokenizer, self.manifest.prompt, self.manifest.tokens, str(file))
            self._tokenizer = tokenizer
        return self._tokenizer

    def engine(self, part: str) -> Engine:
        """Return the engine of a part, opening it on first use.

        Raises:
            BundleError: the bundle has no such part, or another one came in its place.
            EngineError: it cannot be opened, or the device is not what the bundle needs.
            UsageError: the session was closed.
        """
        if part not in self.manifest.graphs:
            raise BundleError(
                f"{self._bundle.path.name} has no graph {part!r} (it has: {', '.join(self.manifest.graphs)}): build it "
                "again"
            )
        with self._opening[part]:
            self._check_open()
            if part not in self._engines:
                self.check_device()
                check_part(self.manifest, part)
                self._engines[part] = self._opener(self._bundle, part, self._memory)
            return self._engines[part]

    def check_device(self) -> None:
        """Raise EngineError if a bundle for a GPU does not fit the one here; asked once, before the first engine opens.

        A GPU's libraries report a wrong driver or a lack of memory late and obscurely, or end the process. What may go
        wrong and need not goes into `notes`, and that a CPU is another than the one weights were packed for.
        """
        if self.manifest.engine.device == "cuda" and not self._device_is_checked:
            from stts_runtime.device.doctor import check_device

            self.notes = tuple(f"{found.topic}: {found.text}; {found.advice}" for found in check_device(self._bundle))
        elif not self._device_is_checked:
            self.notes = tuple(filter(None, [find_packed(self._bundle)[1]]))
        self._device_is_checked = True

    def open(self, prune: float | None = None) -> None:
        """Open every engine that questions at this prune fraction will need, so that the first answer is not late.

        Raises:
            EngineError: one cannot be opened, or the device is not what the bundle needs.
        """
        self.check_device()
        pruned = PARTS_ON_DEVICE if self.manifest.engine.has_plugins else ("vision_score", "vision_encode")
        vision = ("vision_dense",) if self.prune_fraction(prune) == 0 else pruned
        # Opening is page faults and copies, one core's work each: side by side the largest alone sets the time.
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.engine, ("decoder", *vision)))

    def prune_fraction(self, prune: float | None) -> float:
        """Return the prune fraction a call means; None is the bundle's default.

        Raises:
            UsageError: it is no number, outside [0, 1), or the bundle is dense.
        """
        return prune_fraction(prune, self.manifest.pruning, self._bundle.path.name)

    def read(
        self,
        video: Video,
        *,
        frames: int | None = None,
        fps: float | None = None,
        video_stream: int | None = None,
        prune: float | None = None,
        questions: Sequence[str] = (),
    ) -> Clip:
        """Return the frames the model will look at. How many there are is known, and judged, before any is decoded.

        Args:
            video: a video file, or frames uint8 [T, H, W, 3].
            frames: take exactly this many frames of a file, evenly, instead of the model's own sampling.
            fps: frames a second of an array; without it the array is taken as the samples themselves.
            video_stream: the number of the video stream in a file, as `ffprobe` shows it; default the players' choice.
            prune: share of groups that will be dropped, in [0, 1); default the bundle's. More fit the more are dropped.
            questions: that will be asked: one too long beside the video is refused now.

        Raises:
            VideoError: the file cannot be read as video.
            UsageError: the array is no video, or a setting is given for what it cannot apply to.
            LimitError: more frames, or more tokens, than the bundle was built for.
        """
        fraction = self.prune_fraction(prune)
        sampling, grid = self.manifest.frame_sampling, self.manifest.grid
        is_file = isinstance(video, str | Path)
        if frames is not None and not is_file:
            raise UsageError("frames chooses among the frames of a file; of an array, pass the frames to look at")
        if fps is not None and (is_file or isinstance(video, Clip)):
            raise UsageError("fps says how fast an array of frames is; files and clips know their own: leave it out")
        frames = None if frames is None else argument(int, frames, "frames")
        fps = None if fps is None else argument(float, fps, "fps")
        if video_stream is not None and not is_file:
            raise UsageError("video_stream chooses among the streams of a file: leave it out")

        longest = max((self.question_tokens(question) for question in questions), default=0)

        def admit(count: int) -> None:
            self.check_frame_limit(count)
            self.check_token_limit(count, fraction, longest)

        if isinstance(video, Clip):
            admit(len(video.frames))
            return video
        if isinstance(video, str | Path):
            return read_video(video, sampling, frames, grid.image_size, video_stream, admit, grid.resampling)
        return clip_from_frames(video, sampling, fps, grid.image_size, admit, grid.resampling)

    def vision(
        self,
        clip: Clip,
        prune: float | None = None,
        timings: Timings | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Vision:
        """Return the features of the groups kept of `clip`; prune 0 runs dense.

        Args:
            clip: from `read`.
            prune: share of groups to drop, in [0, 1); default the bundle's.
            timings: gets times and counts.
            on_progress: told how far the engines are.

        Raises:
            LimitError: the clip has more frames than the bundle was built for.
            UsageError: `prune` cannot be had, see `prune_fraction`.
        """
        timings = Timings() if timings is None else timings
        fraction, manifest, frames = self.prune_fraction(prune), self.manifest, clip.frames
        self.check_frame_limit(len(frames))
        if fraction == 0:
            vision = dense_vision(self.engine("vision_dense"), frames, manifest, timings, on_progress)
        elif manifest.engine.has_plugins:
            score, select, encode = map(self.engine, PARTS_ON_DEVICE)
            vision = vision_on_device(score, select, encode, frames, fraction, manifest, timings, on_progress)
        else:
            hidden, scores = score_frames(self.engine("vision_score"), frames, manifest, timings, on_progress)
            keep, plan = plan_groups(scores, fraction, manifest, timings)
            features = encode_plan(self.engine("vision_encode"), hidden, plan, manifest, timings, on_progress)
            vision = Vision(features, keep, scores, plan)
        timings.tokens.update(
            frames=len(frames),
            groups=vision.keep.size,
            kept_groups=int(vision.keep.sum()),
            patches=vision.keep.shape[0] * manifest.grid.patches,
        )
        return vision

    def look(
        self,
        video: Seen,
        *,
        kind: str | None = None,
        prune: float | None = None,
        frames: int | None = None,
        fps: float | None = None,
        video_stream: int | None = None,
        questions: Sequence[str] = (),
        on_progress: OnProgress = no_progress,
    ) -> Conversation:
        """Look at a video, or at images, once, and return a conversation about it.

        Args:
            video: see `read`; or images, see `read_images`.
            kind: `video` or `images`, of a file that could be either; else see `images.are_meant`.
            prune: share of groups to drop, in [0, 1); default the bundle's. Images are never pruned.
            frames: see `read`.
            fps: see `read`.
            video_stream: see `read`.
            questions: see `read`.
            on_progress: told how far the engines are.

        Raises:
            UsageError: see `read`, of which VideoError is one, `read_images` (ImageError) and `prune_fraction`.
            LimitError: more frames, or more tokens, than the bundle was built for.
        """
        timings = Timings()
        settings: dict[str, Any] = {"prune": prune, "frames": frames, "fps": fps, "video_stream": video_stream}
        if are_meant(video, kind, self.manifest, settings):
            with timings.stage("read_images"):
                images = self.read_images(video, questions=questions)
            return look_at_images(self, images, timings, on_progress)
        fraction = self.prune_fraction(prune)  # a wrong fraction is refused before the video is decoded
        with timings.stage("read_video"):
            clip = self.read(cast(Video, video), questions=questions, **settings)
        return Conversation(self, clip, self.vision(clip, prune, timings, on_progress), fraction, timings)

    def read_images(self, images: Seen, *, questions: Sequence[str] = ()) -> Images:
        """Return images as the model will look at them; too many for a conversation are refused as they are read.

        Args:
            images: a file, a Pillow image or uint8 [H, W, 3]; or a list of them.
            questions: see `read`.

        Raises:
            ImageError: a file is missing, empty, damaged, too large or no image; or Pillow is not installed.
            UsageError: the bundle knows no images, there is none, or one is no image. LimitError: they are too long.
        """
        return images_for(self.manifest, images, max(map(self.question_tokens, questions), default=0))

    def check_frame_limit(self, frames: int) -> None:
        """Raise LimitError if the bundle was built for fewer frames."""
        check_frames_of_clip(self.manifest, frames)

    def question_tokens(self, question: str) -> int:
        """Return how many tokens a question has.

        Raises:
            UsageError: it cannot be asked, see `check_question`.
            LimitError: it alone is longer than a conversation may be.
        """
        check_question(question, self.manifest.limits.max_tokens)
        return len(self.tokenizer.encode(question, specials=False))

    def check_token_limit(self, frames: int, prune_fraction: float, question: int = 0) -> None:
        """Raise LimitError if video and `question` have more tokens than a conversation may have.

        How many groups stay follows from the number of frames, so this is known before the engines run.
        """
        check_video_tokens(self.manifest, frames, prune_fraction, question)

    @overload
    def ask(self, video: Seen, question: str, *, stream: Literal[False] = False, **settings: Any) -> str: ...
    @overload
    def ask(self, video: Seen, question: str, *, stream: Literal[True], **settings: Any) -> Iterator[str]: ...

    def ask(
        self,
        video: Seen,
        question: str,
        *,
        stream: bool = False,
        kind: str | None = None,
        prune: float | None = None,
        frames: int | None = None,
        fps: float | None = None,
        video_stream: int | None = None,
        **generation: Any,
    ) -> str | Iterator[str]:
        """Return the answer to one question about a video or images; see `look` and `Conversation.ask` for settings."""
        settings = generation_from(generation)
        conversation = self.look(
            video, kind=kind, prune=prune, frames=frames, fps=fps, video_stream=video_stream, questions=(question,)
        )
        pieces = conversation.stream(question, settings)
        return pieces if stream else "".join(pieces)

    def live(self, **settings: Any) -> Live:
        """Return a window over frames that are pushed one by one, to be looked at any time; see `Live` for settings."""
        from stts_runtime.live.live import Live

        return Live(self, **settings)

    def watch(self, *sources: object, ask: str, log: Log = no_log, **settings: Any) -> Watch:
        """Return the answers to a question asked again and again of cameras, streams, files or `Feed`s; see `Watch`.

        Settings are those of `Watching` (`every`, `frames`, `fps`, `mode`, `prune`, `when`, ...) and of `Generation`.
        """
        from stts_runtime.live.records import watching_from
        from stts_runtime.live.watch import Watch

        return Watch(self, sources, watching_from(ask, settings), log)

    def close(self) -> None:
        """Release every engine; nothing opens again after it."""
        self._is_closed = True
        for part, lock in self._opening.items():
            with lock:
                if part in self._engines:
                    self._engines.pop(part).close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"{self._bundle.path.name} was closed and opens no more: load it again")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
