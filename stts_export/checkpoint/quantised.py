"""Checkpoints that come quantised: recognised by what their files say, and refused before anything of them is read.

Packed whole numbers have names and shapes of their own, and some formats (FP8) keep a weight's usual name and shape, so
that it could be taken for the weight without its scale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stts_export.errors import CheckpointError


MARKS = {
    "qweight": "AWQ or GPTQ",
    "qzeros": "AWQ or GPTQ",
    "g_idx": "GPTQ",
    "weight_packed": "compressed-tensors",
    "weight_shape": "compressed-tensors",
    "weight_zero_point": "compressed-tensors",
    "weight_scale": "compressed-tensors or modelopt",
    "weight_scale_2": "modelopt",
    "weight_scale_inv": "FP8",
    "input_scale": "compressed-tensors or modelopt",
    "SCB": "bitsandbytes",
    "absmax": "bitsandbytes",
    "quant_map": "bitsandbytes",
}
"""Last part of a stored name -> the formats that have it."""
CONFIG, SECTIONS = "config.json", ("quantization_config", "compression_config")
MODELOPT_CONFIG = "hf_quant_config.json"


def check_not_quantised(path: Path, names: Iterable[str]) -> None:
    """Raise CheckpointError if the checkpoint at `path`, with tensors of these names, is a quantised one."""
    marked = next((name for name in names if name.rpartition(".")[2] in MARKS), None)
    said = _said(path if path.is_dir() else path.parent)
    if marked is None and said is None:
        return
    found = said or f"{MARKS[str(marked).rpartition('.')[2]]}, as its tensor {marked} shows"
    whole = "" if marked else f" If its weights are whole floats all the same, take that out of {CONFIG}."
    raise CheckpointError(
        f"{path}: a quantised checkpoint ({found}), whose numbers are in the order of another engine and are not read "
        "here. Give the checkpoint in bfloat16 or float32 that it was made from, and have it rounded by `stts-export "
        f"build --weights int4` (or int8).{whole}"
    )


def _said(folder: Path) -> str | None:
    """Return what a folder's own files say of how it is quantised; None where they say nothing."""
    config = _read(folder / CONFIG)
    for table in (config, config.get("text_config")):
        for section in SECTIONS:
            if isinstance(table, dict) and isinstance(table.get(section), dict):
                method = table[section].get("quant_method", "of no name")
                return f"{CONFIG} says {section}: {method}"
    modelopt = _read(folder / MODELOPT_CONFIG).get("quantization")
    if isinstance(modelopt, dict):
        return f"{MODELOPT_CONFIG} says {modelopt.get('quant_algo', 'modelopt')}"
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # damage is told by whoever needs the file
        return {}
    return said if isinstance(said, dict) else {}
