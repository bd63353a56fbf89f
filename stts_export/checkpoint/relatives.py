"""Models that look like one that is known here, and are not: recognised, so that they are refused by their name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from stts_export.errors import CheckpointError


@dataclass(frozen=True)
class Relative:
    """A model that nothing here computes."""

    name: str
    model_type: str  # in its config.json
    mark: re.Pattern[str]  # what some of its stored names match, and none of a model's that is known here
    lacks: str  # what is missing of what is known here, or here of what it has

    def refusal(self, where: str) -> CheckpointError:
        """Return the error for its file or folder `where`."""
        return CheckpointError(
            f"{where}: this is a {self.name} checkpoint, which cannot be built: {self.lacks}. Known are Molmo2 and "
            "Qwen3-VL with dense decoders (2B, 4B, 8B)."
        )


RELATIVES = (
    Relative(
        "Qwen3-VL-MoE",
        "qwen3_vl_moe",
        re.compile(r"(model\.)?language_model\.layers\.\d+\.mlp\.experts\."),
        "its decoder chooses among experts for each token, and the decoder here has one MLP a layer",
    ),
    Relative(
        "Qwen2.5-VL",
        "qwen2_5_vl",
        re.compile(r"(model\.)?visual\.blocks\.\d+\.mlp\.gate_proj\."),
        "its tower attends within windows and has gated MLPs, which the tower here has not, and it lacks Qwen3-VL's "
        "DeepStack mergers and learned positions",
    ),
    Relative(
        "Qwen2-VL",
        "qwen2_vl",
        re.compile(r"(model\.)?visual\.merger\.ln_q\."),
        "it lacks Qwen3-VL's DeepStack mergers and learned positions",
    ),
    Relative(
        "text-only Qwen3",
        "qwen3",
        re.compile(r"(model\.)?layers\.\d+\.self_attn\.q_norm\."),
        "it has no vision tower (no visual.* tensors), and only models that see videos are built",
    ),
)


def check_no_relative(names: Collection[str], where: str) -> None:
    """Raise CheckpointError if stored `names` are those of a model that only looks like one of ours."""
    for relative in RELATIVES:
        if any(relative.mark.match(name) for name in names):
            raise relative.refusal(where)


def check_model_type(model_type: object, where: str) -> None:
    """Raise CheckpointError if config.json says that it is such a model."""
    for relative in RELATIVES:
        if model_type == relative.model_type:
            raise relative.refusal(where)
