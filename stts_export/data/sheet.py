"""The sample sheet: a few clips of a dataset with their questions and answers, for people to judge it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stts_export.data.clips import read_clip
from stts_export.data.records import Question
from stts_export.errors import DataError
from stts_runtime.bundle.manifest import FrameSampling


CLIPS = 8
FRAMES = 8
WIDTH, HEIGHT = 160, 120
LINE, MARGIN = 15, 8
ALL_FRAMES = FrameSampling(method="uniform", max_frames=FRAMES, max_fps=1000.0)


def draw_sheet(data: Path, splits: Mapping[str, Sequence[Question]], output: Path) -> None:
    """Write a picture of a few clips of each split, each with some of its frames and all of its questions, as PNG.

    Raises:
        DataError: a clip cannot be read, or the file cannot be written.
    """
    share = max(1, CLIPS // max(len(splits), 1))
    strips = [strip for split, questions in splits.items() for strip in _strips(data, split, questions, share)]
    sheet = Image.new("RGB", (FRAMES * WIDTH + 2 * MARGIN, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(output, "PNG")
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error}") from error


def _strips(data: Path, split: str, questions: Sequence[Question], wanted: int) -> list[Image.Image]:
    """One picture a clip, taken evenly from the split."""
    clips = sorted({question.clip for question in questions})
    chosen = [clips[index * len(clips) // wanted] for index in range(min(wanted, len(clips)))]
    strips = []
    for clip in chosen:
        asked = [question for question in questions if question.clip == clip]
        still = f", {100 * asked[0].still:.0f} % still" if asked[0].still is not None else ""
        lines = [f"{split}: {clip}{still}", *map(_line, asked)]
        strips.append(_strip(read_clip(data / clip, ALL_FRAMES, None, None).frames, lines))
    return strips


def _line(question: Question) -> str:
    choices = f" ({' / '.join(question.choices)})" if question.choices else ""
    return f"{question.kind}: {question.question}{choices}  -> {question.answer}"


def _strip(frames: np.ndarray, lines: Sequence[str]) -> Image.Image:
    strip = Image.new("RGB", (FRAMES * WIDTH + 2 * MARGIN, HEIGHT + LINE * len(lines) + 3 * MARGIN), "white")
    scale = min(WIDTH / frames.shape[2], HEIGHT / frames.shape[1])
    width, height = round(scale * frames.shape[2]), round(scale * frames.shape[1])
    for index, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((width, height)), (MARGIN + index * WIDTH, MARGIN))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    for index, line in enumerate(lines):
        draw.text((MARGIN, HEIGHT + 2 * MARGIN + index * LINE), line, fill="black", font=font)
    return strip
