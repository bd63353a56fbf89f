"""The sample sheet shows clips of every split."""

import numpy as np
from PIL import Image

from stts_export.data.clips import write_clip
from stts_export.data.records import Question
from stts_export.data.sheet import draw_sheet


def test_each_split_has_its_clips_on_the_sheet(tmp_path):
    colours = {"train": (200, 0, 0), "test": (0, 0, 200)}
    splits = {}
    for split, colour in colours.items():
        write_clip(tmp_path / f"{split}.zip", np.full((8, 24, 32, 3), colour, np.uint8), 5.0)
        splits[split] = [Question(f"{split}.zip", "Which colour?", "red", ("red", "blue"), still=1.0)]
    draw_sheet(tmp_path, splits, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in colours.values():
        assert (np.abs(pixels - colour).max(axis=-1) < 6).sum() == 8 * 160 * 120


def test_frames_keep_their_shape(tmp_path):
    write_clip(tmp_path / "a.zip", np.full((8, 48, 48, 3), (200, 0, 0), np.uint8), 5.0)
    draw_sheet(tmp_path, {"test": [Question("a.zip", "Which colour?", "red")]}, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.abs(pixels - (200, 0, 0)).max(axis=-1) < 6).sum() == 8 * 120 * 120
