"""Which parameters a stage trains, and how: frozen parts, learning rates, weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stts_export.train.adapters import is_adapter, our_name
from stts_export.train.recipe import Stage


HEAD = "patch_head"
MATRICES = "matrices"
"""Of a parameter group: whether its parameters are matrices that Muon takes the steps of."""
_EMBEDDING = "decoder.embedding.weight"
_WITHOUT_DECAY = ("position_embedding", "embedding.weight")
# Tables, and the first and last layers: each of their rows, or columns, stands for a thing of its own.
_NO_MATRICES = (*_WITHOUT_DECAY, "patch_embedding.weight", "decoder.head.weight")


def trained_names(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return what is trained of a `VideoQA` or `PatchClasses` by our names, the head's under `patch_head.`."""
    return {our_name(name): parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def freeze_all_but(module: nn.Module, stage: Stage) -> None:
    """Let gradients flow to the parts that have a learning rate, and to no other."""
    rates = stage.learning_rates.given
    for name, parameter in module.named_parameters():
        part = _rated_part(our_name(name), stage)
        trained = part in rates or (part == HEAD and "vision_tower" in rates)
        if part == "decoder" and stage.lora is not None:
            trained = trained and is_adapter(our_name(name))
        parameter.requires_grad_(trained)


def parameter_groups(module: nn.Module, stage: Stage) -> list[dict[str, Any]]:
    """Return the optimizer's groups, by part, by whether weights decay, and by whether Muon takes their steps.

    Each says its `part`, its highest rate as `top_rate`, the `names` of its parameters, and by `MATRICES` whose it is.
    """
    rates = stage.learning_rates.given
    groups: dict[tuple[str, bool, bool], dict[str, Any]] = {}
    for name, parameter in trained_names(module).items():
        part = _rated_part(name, stage)
        decays = parameter.ndim >= 2 and not name.endswith(_WITHOUT_DECAY)
        matrix = part in stage.muon and parameter.ndim == 2 and not name.endswith(_NO_MATRICES)
        rate = rates["vision_tower" if part == HEAD else part]
        settings = {"part": part, "lr": rate, "top_rate": rate, "weight_decay": stage.weight_decay if decays else 0.0}
        group = groups.setdefault((part, decays, matrix), {"params": [], "names": [], **settings, MATRICES: matrix})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def lower_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of frozen linear layers in `dtype`, that of the autocast they will run under.

    The numbers stay the same: autocast would lower these weights in every forward pass anew, as it only remembers
    those that are trained. A frozen decoder takes half the memory. The scorer runs in float32, and keeps its weights.
    """
    for name, layer in module.named_modules():
        if part_of(our_name(name)) == "scorer":
            continue
        if isinstance(layer, nn.Linear) and not any(parameter.requires_grad for parameter in layer.parameters()):
            layer.to(dtype)


def _rated_part(name: str, stage: Stage) -> str:
    """Return the key of the learning rate that our name falls under; the head's is its own name."""
    if name == _EMBEDDING and stage.learning_rates.embedding is not None:
        return "embedding"
    return part_of(name)


def part_of(name: str) -> str:
    """Return the part that our name belongs to: vision_tower, scorer, connector, decoder or patch_head."""
    return name.split(".", 1)[0]
