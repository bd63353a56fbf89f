"""Lets transformers import torchvision beside a CPU torch whose build lacks torchvision's compiled operators.

Only the operators' schemas are needed for the import; nothing here calls them. Keep `LIBRARY` alive.
"""

import torch


LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
