"""Which weights of a model are rounded, and how: the one table of it."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from stts_export.checkpoint.expected import expected_tensors
from stts_export.errors import UsageError
from stts_export.quantise.rounding import Rounding
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import FLOAT, EngineSettings


BLOCK = 32
INT8 = Rounding(8, BLOCK)
INT4 = Rounding(4, BLOCK, has_offsets=True)
LINEARS = {"int8": INT8, "int4": INT4}
"""`--weights` -> how the decoder's linear layers are rounded."""
HEAD = INT8
"""Of head and embedding, whatever the rest: a token's own row is all that tells it from others."""
_EMBEDDING, _HEAD = "decoder.embedding.weight", "decoder.head.weight"


def roundings_of(engine: EngineSettings, config: ModelConfig) -> dict[str, Rounding]:
    """Return how each weight of a model is rounded in a bundle with these settings, see `roundings`."""
    return roundings(expected_tensors(config), engine.weights, engine.keep_float)


def roundings(
    shapes: Mapping[str, tuple[int, ...]], weights: str, keep_float: tuple[str, ...] = ()
) -> dict[str, Rounding]:
    """Return how each weight is rounded; those that stay in floats are left out.

    Args:
        shapes: of the model's tensors, by name.
        weights: one of the runtime's `WEIGHTS`.
        keep_float: patterns (`decoder.blocks.0.*`) of names of weights, or of modules, that stay in floats.

    Raises:
        UsageError: a pattern matches none of what would be rounded.
    """
    if weights == FLOAT:
        return {}
    chosen = {
        name: HEAD if name in (_EMBEDDING, _HEAD) else LINEARS[weights]
        for name, shape in shapes.items()
        if name.startswith("decoder.") and len(shape) == 2 and shape[1] % BLOCK == 0
    }
    for pattern in keep_float:
        kept = [name for name in chosen if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)]
        if not kept:
            raise UsageError(
                f"--keep-float {pattern} matches no weight that would be rounded: wanted a name or pattern such as "
                f"{next(iter(chosen), 'decoder.blocks.0.*')}"
            )
        for name in kept:
            del chosen[name]
    return chosen
