"""Where weights come from: checkpoint layouts to our names as data, every tensor read only when asked for."""

from __future__ import annotations

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.open import VISION, open_checkpoint
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer


__all__ = [
    "VISION",
    "Checkpoint",
    "LazyTensor",
    "config_from_checkpoint",
    "expected_tensors",
    "find_tokenizer",
    "load_into",
    "open_checkpoint",
    "random_checkpoint",
]
