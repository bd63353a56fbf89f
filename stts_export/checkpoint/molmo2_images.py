"""How a Molmo2 checkpoint looks at single images: its processor's settings, and the ids of their markers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stts_export.checkpoint.json_file import Table, beside, demand
from stts_export.checkpoint.token_ids import added_tokens
from stts_export.checkpoint.tokenizer import FILE as TOKENIZER_FILE
from stts_runtime.bundle.manifest import Cropping, Tokens


PROCESSOR = "processor_config.json"
MARKERS = {"<im_start>": -2, "<im_end>": -1, "<im_col>": 1, "<low_res_im_start>": 2}
"""Where they lie beside `<im_patch>` in the released models, for checkpoints whose files do not say."""


def cropping_of(folder: Path) -> Cropping:
    """Return how images are cut; what no file says is as in the released models."""
    both = beside(folder, PROCESSOR)
    inner = both.table("image_processor", default={})
    images = inner if inner.values else beside(folder, "preprocessor_config.json")
    overlap = images.wholes("overlap_margins", default=(4, 4), least=2)
    pool = images.wholes("pooling_size", default=(2, 2), least=2)
    demand(images, "pooling_size", pool, [pool[0], pool[0]])
    columns = both.truth("image_use_col_tokens", default=True)
    low_res_columns = both.truth("use_single_crop_col_tokens", default=columns if both.values else False)
    return Cropping(
        max_crops=images.whole("max_crops", default=8),
        overlap=(overlap[0], overlap[1]),
        pool=pool[0],
        columns=columns,
        low_res_columns=low_res_columns,
    )


def with_image_tokens(tokens: Tokens, config: Table, folder: Path) -> Tokens:
    """Return a checkpoint's tokens with those of images, whose config.json is `config`."""
    added = added_tokens(beside(folder, TOKENIZER_FILE))
    start, end, column, low = (added.get(text, tokens.image_patch + place) for text, place in MARKERS.items())
    start = config.whole("image_start_token_id", default=start)
    has_low_start = beside(folder, PROCESSOR).truth("use_single_crop_start_token", default=True)
    return replace(
        tokens,
        image_start=start,
        low_res_image_start=config.whole("low_res_image_start_token_id", default=low) if has_low_start else start,
        image_column=config.whole("image_col_id", default=column),
        image_end=config.whole("image_end_token_id", default=end),
    )
