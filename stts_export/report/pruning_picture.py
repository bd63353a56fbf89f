"""Draw what was pruned: every frame with its dropped groups dimmed, beside a heat map of its scores."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stts_runtime.bundle.manifest import Grid
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import UsageError


SHOWN_FRAMES = 32

_TILE_AREA = 270**2
_MARGIN, _GAP, _CARD_GAP, _CAPTION, _HEADER, _BAR_WIDTH = 40, 6, 28, 30, 124, 460
_BACKGROUND, _TEXT, _FAINT, _OUTLINE = (19, 21, 26), (240, 241, 243), (150, 156, 166), (255, 255, 255)
_FOG, _FOG_SHARE = (34, 38, 50), 0.72  # dropped groups: grey under a fog lighter than black, so it shows in dark scenes
_COLOURS = ((24, 18, 58), (92, 30, 122), (186, 54, 106), (246, 126, 72), (255, 240, 180))
"""Of scores from low to high, evenly spaced: dark to bright, so that they tell as much without their hues."""
_CUT_AT = 0.4
_SHAPE = 1.4  # a picture's width to its height


@dataclass(frozen=True)
class _Scale:
    """Which scores the colours span, bent so that the cut has a fixed colour: most scores crowd near it."""

    low: float  # score of the darkest colour
    high: float  # score of the brightest
    cut: float | None  # the score below which groups were dropped; None where there is no single one

    def place(self, scores: np.ndarray) -> np.ndarray:
        """Return places on the scale, in [0, 1]; scores outside are put at its ends."""
        if self.cut is None:
            return np.asarray(np.interp(scores, (self.low, self.high), (0, 1)))
        return np.asarray(np.interp(scores, (self.low, self.cut, self.high), (0, _CUT_AT, 1)))


def pruning_picture(
    frames: np.ndarray,
    scores: np.ndarray,
    keep: np.ndarray,
    timestamps: Sequence[float] | np.ndarray,
    grid: Grid,
    caption: str = "",
) -> Image.Image:
    """Return a picture of the frames of one clip, of their scores, and of the groups that were kept.

    Args:
        frames: uint8 [T, height, width, 3], as the model saw them or in the video's own aspect; the grid is stretched.
        scores: float [T, G]; the colours span their 1st to 99th percentile, the first frame, always kept, aside.
        keep: bool [T, G].
        timestamps: T times in seconds.
        grid: how a frame is divided.
        caption: said under the title, for instance the clip's name and the scorer's.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    count, wanted = len(frames), (len(frames), grid.groups)
    if not count or scores.shape != wanted or keep.shape != wanted or len(timestamps) != count:
        raise ValueError(f"{frames.shape=}, {scores.shape=}, {keep.shape=}, {len(timestamps)=} for {wanted=}")
    shown = np.unique(np.linspace(0, count - 1, min(count, SHOWN_FRAMES)).round().astype(int))
    scale = _scale(scores, keep)
    tile = _tile_size(frames.shape[2], frames.shape[1], grid)
    cards = [_card(frames[t], scores[t], keep[t], float(timestamps[t]), int(t), tile, scale, grid) for t in shown]
    return _sheet(cards, keep, scale, caption)


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write `picture` to `path`: `.png`, or `.html`, one page that needs no other file.

    Raises:
        UsageError: another suffix.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    content = encoded.getvalue()
    if path.suffix == ".html":
        content = _page(path.stem, picture.width, content).encode()
    elif path.suffix != ".png":
        raise UsageError(
            f"{path}: a picture is written as .png or .html, not as {path.suffix or 'a name without suffix'}"
        )
    write_whole(path, lambda file: file.write_bytes(content))


def _scale(scores: np.ndarray, keep: np.ndarray) -> _Scale:
    later = slice(1, None) if len(scores) > 1 else slice(None)
    scores, keep = scores[later], keep[later]
    low, high = (float(end) for end in np.percentile(scores, (1, 99)))
    low = min(low, high - 1e-6)  # all scores equal: all bright
    cut = None
    if keep.any() and not keep.all():
        dropped, kept = float(scores[~keep].max()), float(scores[keep].min())
        middle = (dropped + kept) / 2
        cut = middle if dropped <= kept and low < middle < high else None  # several videos have several cuts: show none
    return _Scale(low, high, cut)


def _tile_size(width: int, height: int, grid: Grid) -> tuple[int, int]:
    """Return width and height in pixels, of the frame's aspect and of whole groups; extreme aspects are reined in."""
    stretch = math.sqrt(min(max(width / height, 1 / 4), 4))
    side = math.sqrt(_TILE_AREA)
    columns, rows = grid.group_columns, grid.group_rows
    return round(side * stretch / columns) * columns, round(side / stretch / rows) * rows


def _card(
    frame: np.ndarray,
    scores: np.ndarray,
    keep: np.ndarray,
    seconds: float,
    index: int,
    tile: tuple[int, int],
    scale: _Scale,
    grid: Grid,
) -> Image.Image:
    """Return one frame's time and count above its two tiles: the picture and its scores."""
    width, height = tile
    mask = keep.reshape(grid.group_rows, grid.group_columns)
    card = Image.new("RGB", (2 * width + _GAP, _CAPTION + height), _BACKGROUND)
    card.paste(Image.fromarray(_frame_tile(frame, mask, tile)), (0, _CAPTION))
    card.paste(Image.fromarray(_heat_tile(scores, mask, tile, scale)), (width + _GAP, _CAPTION))
    draw = ImageDraw.Draw(card)
    label = f"{seconds:.1f} s"
    draw.text((1, _CAPTION - 8), label, _TEXT, _font(18), anchor="ls")
    which = "first frame, always kept" if index == 0 else f"frame {index}"
    draw.text((14 + draw.textlength(label, _font(18)), _CAPTION - 8), which, _FAINT, _font(16), anchor="ls")
    draw.text((width + _GAP + 1, _CAPTION - 8), f"{keep.sum()} of {grid.groups} kept", _TEXT, _font(16), anchor="ls")
    return card


def _frame_tile(frame: np.ndarray, mask: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    colour = np.asarray(Image.fromarray(frame).resize(tile, Image.Resampling.LANCZOS)).astype(np.float32)
    grey = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    dimmed = (1 - _FOG_SHARE) * grey[..., None] + _FOG_SHARE * np.array(_FOG, np.float32)
    pixels = np.where(_enlarged(mask, tile)[..., None], colour, dimmed).round().clip(0, 255).astype(np.uint8)
    return _outlined(pixels, mask, tile)


def _heat_tile(scores: np.ndarray, mask: np.ndarray, tile: tuple[int, int], scale: _Scale) -> np.ndarray:
    colours = _colours(scale.place(scores.reshape(mask.shape)))
    return _outlined(_enlarged(colours, tile), mask, tile)


def _colours(values: np.ndarray) -> np.ndarray:
    """Return the colours, uint8 [..., 3], of places in [0, 1] on the scale."""
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(values, places, channel) for channel in zip(*_COLOURS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _enlarged(cells: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    width, height = tile
    return cells.repeat(height // len(cells), axis=0).repeat(width // cells.shape[1], axis=1)


def _outlined(pixels: np.ndarray, mask: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Return `pixels` with a thin line where kept and dropped groups meet."""
    large = np.pad(_enlarged(mask, tile), 1, mode="edge")
    core = large[1:-1, 1:-1]
    around = large[:-2, 1:-1] & large[2:, 1:-1] & large[1:-1, :-2] & large[1:-1, 2:]
    pixels = pixels.copy()
    pixels[core & ~around] = _OUTLINE
    return pixels


def _sheet(cards: list[Image.Image], keep: np.ndarray, scale: _Scale, caption: str) -> Image.Image:
    """Return the cards in rows under a title and a legend."""
    width, height = cards[0].width + _CARD_GAP, cards[0].height + _CARD_GAP
    columns = _columns(len(cards), width / height)
    rows = -(-len(cards) // columns)
    inner = max(columns * width - _CARD_GAP, 1150)
    sheet = Image.new("RGB", (inner + 2 * _MARGIN, _MARGIN + _HEADER + rows * height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    kept, total = int(keep.sum()), keep.size
    title = f"{100 * (1 - kept / total):.1f} % of groups pruned"
    draw.text((_MARGIN, _MARGIN + 26), title, _TEXT, _font(36), anchor="ls")
    facts = f"{kept} of {total} groups kept. {_selection(len(cards), len(keep))}"
    for line, text in enumerate((f"{facts} {caption}", "Left: the frame, dropped groups grey. Right: its scores.")):
        draw.text((_MARGIN, _MARGIN + 58 + 24 * line), text, _FAINT, _font(18), anchor="ls")
    _draw_legend(sheet, inner + _MARGIN - _BAR_WIDTH, _MARGIN + 24, scale)
    for i, card in enumerate(cards):
        sheet.paste(card, (_MARGIN + i % columns * width, _MARGIN + _HEADER + i // columns * height))
    return sheet


def _columns(cards: int, aspect: float) -> int:
    """Return the number of columns that gives about a screen's shape and leaves few empty places."""

    def badness(columns: int) -> float:
        rows = -(-cards // columns)
        return abs(math.log(columns * aspect / rows / _SHAPE)) + (rows * columns - cards) / cards

    return min(range(1, cards + 1), key=badness)


def _selection(shown: int, frames: int) -> str:
    if shown < frames:
        return f"{shown} of {frames} frames shown, evenly chosen."
    return "The only frame shown." if frames == 1 else f"All {frames} frames shown."


def _draw_legend(sheet: Image.Image, left: int, top: int, scale: _Scale) -> None:
    """Draw the colours with their scores, and where the line between dropped and kept lies."""
    draw = ImageDraw.Draw(sheet)
    bar = np.broadcast_to(_colours(np.linspace(0, 1, _BAR_WIDTH)), (16, _BAR_WIDTH, 3))
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top))
    draw.text((left - 14, top + 14), "score", _TEXT, _font(18), anchor="rs")
    draw.text((left, top + 37), f"{scale.low:.3f}", _FAINT, _font(16), anchor="ls")
    draw.text((left + _BAR_WIDTH, top + 37), f"{scale.high:.3f}", _FAINT, _font(16), anchor="rs")
    if scale.cut is not None:
        x = left + round(_CUT_AT * (_BAR_WIDTH - 1))
        draw.line([(x, top - 5), (x, top + 20)], _OUTLINE, 2)
        draw.text((x - 10, top - 10), "dropped", _FAINT, _font(16), anchor="rs")
        draw.text((x + 12, top - 10), "kept", _TEXT, _font(16), anchor="ls")
        draw.text((x, top + 37), f"{scale.cut:.3f}", _TEXT, _font(16), anchor="ms")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _page(title: str, width: int, png: bytes) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>body {{ margin: 0; background: rgb{_BACKGROUND} }} "
        f"img {{ display: block; margin: auto; width: {width}px; max-width: 100% }}</style>\n"
        f'<img alt="Frames with their pruned groups dimmed, and their scores" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">\n</html>\n'
    )
