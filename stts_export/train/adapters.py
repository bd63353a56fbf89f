"""Low-rank adapters on the decoder, through peft, under our names.

`decoder.blocks.0.attention.query.weight` stays, and `...weight.lora_a` [rank, in] and `...weight.lora_b` [out, rank]
stand beside it: the layer computes W x + alpha / rank * B A x (arXiv 2106.09685).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from stts_export.checkpoint.trained import LORA_A, LORA_B
from stts_export.errors import TrainingError
from stts_export.train.recipe import Lora


_LAYERS = r"blocks\.\d+\.(attention\.(query|key|value|output)|mlp\.(gate|up|down))"
_SPELLINGS = (
    (".base_layer.", "."),
    (".lora_A.default.weight", f".weight{LORA_A}"),
    (".lora_B.default.weight", f".weight{LORA_B}"),
)


def add_adapters(decoder: nn.Module, lora: Lora) -> None:
    """Put adapters beside all linear layers of the decoder's blocks, in place; B is zero, so nothing changes yet.

    A is drawn from torch's global generator.

    Raises:
        TrainingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        raise TrainingError(
            f"adapters need peft, which cannot be imported ({error}): pip install 'stts-export[train]'"
        ) from error
    alpha: Any = lora.alpha  # peft's type says int, and it only divides by the rank
    config = LoraConfig(r=lora.rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=_LAYERS)
    inject_adapter_in_model(config, decoder)
    for module in decoder.modules():
        if isinstance(module, BaseTunerLayer):
            # peft would turn half-precision inputs into float32, which autocast turns back: twice over all tokens
            module.cast_input_dtype_enabled = False


def our_name(name: str) -> str:
    """Return the name of a parameter of `VideoQA` or `PatchClasses`, wrapped or not, as checkpoints have it."""
    for wrapper in ("module.", "_fsdp_wrapped_module."):
        name = name.replace(wrapper, "")
    for theirs, ours in _SPELLINGS:
        name = name.replace(theirs, ours)
    return name.removeprefix("model.") if name.startswith("model.") else f"patch_{name}"


def is_adapter(name: str) -> bool:
    """Whether our name is an adapter's."""
    return name.endswith((LORA_A, LORA_B))
