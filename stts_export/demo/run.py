"""The demo from end to end: two bundles of one model, a clip it has not seen, the same questions to both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from stts_export.data.clips import clip_to_video
from stts_export.data.generate import generate
from stts_export.data.read import open_questions
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.demo.ask import PRUNE, Asked, ask, first_clip
from stts_export.errors import DiskError
from stts_export.graph import capture
from stts_export.graph.capture import Capture
from stts_export.pipeline import BuildRequest, build
from stts_export.report.pruning_picture import write_picture
from stts_runtime.device.readings import free_disk
from stts_runtime.progress import Log, OnProgress, no_log
from stts_runtime.sizes import MIB, size_text


MODEL, SPLIT, CLIPS = "nano", "held_out", SplitSizes(train=0, validation=0, test=0, held_out=24)
NAMES = ("learned", "random")
"""The bundles, by their scorers: pruning at random is what a scorer is held against."""
STEPS = (
    "build nano with its learned scorer, and compare it with the torch model",
    "build it again, with a scorer that draws at random",
    "make clips of a kind it was not trained on",
    "ask both about the first of them",
)
DISK_BYTES = 64 * MIB  # bundles, clips and pictures take a fourth of it

Stepping = Callable[[str], AbstractContextManager[OnProgress]]
"""Called with each of `STEPS` in turn; within it, what is done is told to what it yields."""


@dataclass(frozen=True)
class Answered:
    """A question, the right answer, and what each bundle says."""

    question: str
    right: str
    answers: dict[str, str]  # by `NAMES`


@dataclass(frozen=True)
class Demo:
    """What came of it, and where it lies."""

    bundles: dict[str, str]  # paths, by `NAMES`
    video: str  # path of the clip, for people
    picture: str  # path of what the learned scorer kept, above what was kept at random
    clip: str  # the clip's name in its dataset
    prune: float
    questions: tuple[Answered, ...]
    asked: dict[str, Asked]  # by `NAMES`
    seconds: float  # that all of it took


def demo(output: Path, stepping: Stepping, log: Log = no_log, capture: Capture = capture) -> Demo:
    """Build, verify, ask, and write what can be looked at into `output`; an earlier demo there is replaced.

    Args:
        output: folder for both bundles, the dataset, `clip.mp4` and `pruned.png`; made if need be.
        stepping: told each step.
        log: told what a person should know and no code needs.
        capture: makes a part's graph.

    Raises:
        DiskError: there is too little room, or the disk cannot be written.
        SttsError: a step fails; what is there of the steps before stays.
    """
    start = time.perf_counter()
    check_room(output)
    bundles = {name: output / file for name, file in zip(NAMES, ("nano.stts", "nano-random.stts"), strict=True)}
    data = output / "data"
    with stepping(STEPS[0]) as on_progress:
        build(BuildRequest(MODEL, bundles["learned"], overwrite=True), on_progress, log, capture)
    with stepping(STEPS[1]) as on_progress:
        request = BuildRequest(MODEL, bundles["random"], scorer="random", verify=False, overwrite=True)
        build(request, on_progress, capture=capture)  # what is to be said of it was said of the first
    with stepping(STEPS[2]) as on_progress:
        generate(replace(read_data_recipe(MODEL), clips=CLIPS), data, workers=1, on_progress=on_progress)
    questions = first_clip(open_questions(data, SPLIT))
    asked, pictures = {}, []
    with stepping(STEPS[3]) as on_progress:
        for name, bundle in bundles.items():
            asked[name], picture = ask(bundle, data, questions)
            pictures.append(picture)
            on_progress("ask", len(pictures) / len(bundles))
    video, picture_file = output / "clip.mp4", output / "pruned.png"
    clip_to_video(data / questions[0].clip, video)
    write_picture(above(pictures), picture_file)
    return Demo(
        bundles={name: str(bundle) for name, bundle in bundles.items()},
        video=str(video),
        picture=str(picture_file),
        clip=questions[0].clip,
        prune=PRUNE,
        questions=tuple(
            Answered(one.question, one.answer, {name: asked[name].answers[place] for name in NAMES})
            for place, one in enumerate(questions)
        ),
        asked=asked,
        seconds=time.perf_counter() - start,
    )


def check_room(output: Path) -> None:
    """Raise DiskError where the demo's files would not fit."""
    free = free_disk(output)
    if free is not None and free < DISK_BYTES:
        raise DiskError(
            f"{output}: the demo needs {size_text(DISK_BYTES)}, and {size_text(free)} are free there: free some space, "
            "or name a folder on another disk with --output"
        )


def above(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures of one width as one."""
    whole = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)))
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole
