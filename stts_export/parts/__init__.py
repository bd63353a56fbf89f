"""Where the model is cut into graphs: one file a part, each with its inputs and outputs as a table."""

from __future__ import annotations

from stts_export.models.model import Model
from stts_export.parts.decoder import decoder_part
from stts_export.parts.decoder_rows import decoder_rows_part
from stts_export.parts.part import Part
from stts_export.parts.vision_dense import vision_dense_part
from stts_export.parts.vision_encode import (
    vision_encode_ffd_part,
    vision_encode_on_device_part,
    vision_encode_ragged_part,
)
from stts_export.parts.vision_image import vision_image_part
from stts_export.parts.vision_score import vision_score_part
from stts_export.parts.vision_select import vision_select_part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import FLOAT, Limits


__all__ = ["Part", "parts_of"]

ENCODE = {"ffd": vision_encode_ffd_part, "ragged": vision_encode_ragged_part}
"""Packing by the host's plan -> the encoding part."""


def parts_of(
    model: Model, config: ModelConfig, limits: Limits, packing: str, *, plugins: bool = False, kv_cache: str = FLOAT
) -> tuple[Part, ...]:
    """Return the parts of a bundle in data-flow order.

    A pruned bundle (`packing` is `ffd` or `ragged`) also holds the dense vision part, whose weights it shares, so that
    pruning can be switched off at call time; the packing of a dense one is `none`. Where the model knows images, so
    does a part for these. With `plugins`, groups are selected and packed on the device, end to end. Where
    `limits.max_rows` is more than 1, so many conversations can be decoded together. `kv_cache` is how the decoder's
    cache is kept. The model's weights may be fake.
    """
    dense = (vision_dense_part(model, config, limits),)
    pruned: tuple[Part, ...] = ()
    if packing != "none":
        select = (vision_select_part(config, limits),) if plugins else ()
        encode = vision_encode_on_device_part if plugins else ENCODE[packing]
        pruned = (vision_score_part(model, config, limits, plugins=plugins), *select, encode(model, config, limits))
    image = () if config.image is None else (vision_image_part(model, config, config.image),)
    decoder = decoder_part(model, config, limits, plugins=plugins, kv_cache=kv_cache)
    together = (decoder_rows_part(model, config, limits, kv_cache=kv_cache),) if limits.max_rows > 1 else ()
    return (*pruned, *dense, *image, decoder, *together)
