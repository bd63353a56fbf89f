"""Import transformers' model code where torchvision lies beside a torch it was not built for.

transformers imports torchvision wherever it is installed, though no model here needs it; and a torchvision whose
compiled operators do not fit torch fails on import, since it describes operators that then do not exist. Declaring the
two it stumbles over is enough: nothing calls them.
"""

from __future__ import annotations

import importlib
import importlib.util

import torch


_DECLARED: list[torch.library.Library] = []  # operators live as long as the library that declares them


def make_transformers_importable() -> None:
    """Declare what a torchvision without its operators misses; does nothing where it is whole, or not installed."""
    if _DECLARED or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)
