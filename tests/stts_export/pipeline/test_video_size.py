from pathlib import Path

import pytest

from stts_export.cli import main
from stts_export.pipeline.video_size import with_video_size
from stts_export.recipe.read import read_model_recipe
from stts_runtime.errors import UsageError


QWEN = read_model_recipe("qwen3-vl-2b").config


def test_a_size_that_groups_divide_is_taken_width_first() -> None:
    assert with_video_size(QWEN, "640x352").grid.size == (352, 640)
    assert with_video_size(QWEN, None) == QWEN


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("500x300", r"--video-size 500x300: wanted multiples of 32 .*; 512x288 is the nearest"),
        ("512x0", r"wanted multiples of 32 .*; 512x32 is the nearest"),
        ("51200x288", r"wanted multiples of 32 up to 8192 .*; 8192x288 is the nearest"),
        ("512", r"--video-size is '512', wanted WIDTHxHEIGHT in pixels, such as 512x288"),
        ("512x-288", "wanted WIDTHxHEIGHT"),
        ("512 x 288", "wanted WIDTHxHEIGHT"),
        ("", "wanted WIDTHxHEIGHT"),
    ],
)
def test_other_sizes_are_refused_with_one_that_can_be(asked: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        with_video_size(QWEN, asked)


def test_a_model_that_sees_one_size_takes_none() -> None:
    with pytest.raises(UsageError, match=r"micro has a learned position for each patch of .* sees no other size"):
        with_video_size(read_model_recipe("micro").config, "512x288")


def test_the_command_refuses_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = ["build", "--model", "qwen3-vl-2b", "--random-weights", "--prune", "0", "-o", str(tmp_path / "q.stts")]
    assert main([*build, "--video-size", "500x300"]) == 2
    said = capsys.readouterr().err.strip()
    assert "512x288 is the nearest" in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())
