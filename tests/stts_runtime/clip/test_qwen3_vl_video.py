"""Videos as Qwen3-VL's processor takes them: sizes, frames, pixels, times and prompt, against transformers' own."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from reference.qwen3_vl import their_pixels
from reference.toy_tokenizer import trained_tokenizer
from tokenizers import AddedToken, Tokenizer as Library
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from stts_export.checkpoint.config_qwen3_vl import PROMPT
from stts_runtime.bundle.manifest import FrameSampling, Grid, Tokens
from stts_runtime.clip.frame_sampling import patch_times, sample_frames
from stts_runtime.clip.frames import patches_from_frames, resize_frames
from stts_runtime.clip.smart_resize import SmartResize, smart_size
from stts_runtime.errors import UsageError
from stts_runtime.language.prompt import build_first_turn
from stts_runtime.language.tokenizer import Tokenizer


GRID = Grid(image_size=(64, 96), patch_size=16, pool=2, frames=2)
RULE = SmartResize(min_pixels=4096, max_pixels=25165824, max_frame_tokens=768)
SAMPLING = FrameSampling("uniform_both_ends", max_frames=768, max_fps=2.0, min_frames=4)
MARKERS = ("<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


def video_processor(cap: bool = True, least: int = 4096, most: int = 25165824) -> Qwen3VLVideoProcessor:
    return Qwen3VLVideoProcessor(cap_pixels_per_frame=cap, size={"shortest_edge": least, "longest_edge": most})


@cache
def tokenizer_text() -> str:
    library = Library.from_str(trained_tokenizer())
    library.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in (*MARKERS, "<|image_pad|>")]
    )
    return library.to_str()


def tokens() -> Tokens:
    number = Library.from_str(tokenizer_text()).token_to_id
    end = number("<|im_end|>")
    return Tokens(number("<|im_start|>"), (end,), *(number(text) for text in MARKERS), texts=MARKERS)


@given(
    frames=st.integers(2, 800),
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    bounds=st.sampled_from([(4096, 25165824), (131072, 786432)]),
    cap=st.booleans(),
)
def test_sizes_are_those_of_transformers(
    frames: int, height: int, width: int, bounds: tuple[int, int], cap: bool
) -> None:
    rule = SmartResize(*bounds, max_frame_tokens=768 if cap else None)
    try:
        got = smart_size(rule, GRID, frames, height, width)
    except UsageError:
        with pytest.raises(ValueError, match="aspect ratio"):
            video_processor(cap, *bounds).get_num_of_video_patches(frames, height, width)
        return
    assert all(side > 0 and side % 32 == 0 for side in got)
    count = video_processor(cap, *bounds).get_num_of_video_patches(frames, height, width)
    assert -(-frames // 2) * (got[0] // 16) * (got[1] // 16) == count


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 480, 640), (8, 0, 640), (8, 40, 9000)])
def test_videos_that_have_no_size_are_refused(frames: int, height: int, width: int) -> None:
    with pytest.raises(UsageError, match="wanted"):
        smart_size(RULE, GRID, frames, height, width)


@given(total=st.integers(1, 5000), fps=st.sampled_from([1.0, 10.0, 24000 / 1001, 25.0, 30.0, 60.0]))
def test_frames_are_those_of_transformers(total: int, fps: float) -> None:
    metadata = VideoMetadata(total_num_frames=total, fps=fps)
    wanted = video_processor().sample_frames(metadata)
    assert np.array_equal(sample_frames(SAMPLING, total, fps).indices, wanted)


@pytest.mark.parametrize("count", [2, 5])
def test_pixels_of_frames_of_the_grids_size_are_those_of_transformers(count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3), np.uint8)
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
    out = video_processor()(videos=[planes], do_sample_frames=False, return_tensors="pt")
    assert out["video_grid_thw"].tolist() == [[-(-count // 2), GRID.rows, GRID.columns]]
    got = their_pixels(torch.from_numpy(patches_from_frames(frames, GRID)), GRID)
    torch.testing.assert_close(got, out["pixel_values_videos"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("count", "height", "width"), [(2, 60, 100), (5, 131, 200), (4, 360, 640), (3, 65, 95)])
def test_pixels_of_frames_of_any_size_are_those_of_transformers(count: int, height: int, width: int) -> None:
    """At the size that the processor chooses, which is what a bundle would be built for."""
    frames = np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)
    out = video_processor()(
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt"
    )
    grid = replace(GRID, image_size=smart_size(RULE, GRID, count, height, width))
    assert out["video_grid_thw"].tolist() == [[-(-count // 2), grid.rows, grid.columns]]
    ours = patches_from_frames(resize_frames(frames, grid.image_size, "bicubic"), grid)
    got = their_pixels(torch.from_numpy(ours), grid)
    torch.testing.assert_close(got, out["pixel_values_videos"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("indices", [[0, 12], [0, 13, 26, 39, 312], list(range(0, 700, 7))], ids=len)
def test_times_and_token_ids_are_those_of_transformers(indices: list[int]) -> None:
    """The processor is given the placeholder alone: its chat template puts markers around it, see docs/decisions.md."""
    fps = 24000 / 1001
    library = PreTrainedTokenizerFast(tokenizer_object=Library.from_str(tokenizer_text()), pad_token="<|im_end|>")
    processor = Qwen3VLProcessor(Qwen2VLImageProcessor(), library, video_processor())
    frames = torch.zeros(len(indices), 3, 64, 96, dtype=torch.uint8)
    text = "<|im_start|>user\n<|video_pad|>What happens?<|im_end|>\n<|im_start|>assistant\n"
    metadata = {"fps": fps, "total_num_frames": 1000, "frames_indices": list(indices)}
    out = processor(
        text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="np"
    )
    times = patch_times(np.array(indices) / fps, GRID.frames)
    kept = [GRID.groups] * len(times)
    turn = build_first_turn(
        Tokenizer(Library.from_str(tokenizer_text())), PROMPT, tokens(), times, kept, "What happens?"
    )
    assert np.array_equal(turn.token_ids, out["input_ids"][0])
    assert np.array_equal(turn.token_ids == tokens().image_patch, out["mm_token_type_ids"][0] == 2)
    assert json.loads(tokenizer_text())["added_tokens"], "the markers are tokens of their own"
