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
INT8_ROWS = Rounding(8, None)
"""Twice as fast as floats where many rows are multiplied, and the coarsest: one scale for all that a product sums."""
LINEARS = {"int8": INT8_ROWS, "int4": INT4}
"""`--weights` -> how the decoder's linear layers are rounded."""
EXCEPTIONS = {"int8": {".mlp.down.weight": INT8}}
"""Those that are not, by the end of their names: of all inputs, the gated ones differ most in size."""
HEAD = INT8
"""Of head and embedding, whatever the rest: a token's own row is all that tells it from others."""
TOWER = {"int8": INT8_ROWS}
"""`--tower-weights` -> how linear layers behind the scorer are rounded, up to the decoder. What scores are made of
stays in floats: other scores keep other groups."""
_EMBEDDING, _HEAD = "decoder.embedding.weight", "decoder.head.weight"


def roundings_of(engine: EngineSettings, config: ModelConfig) -> dict[str, Rounding]:
    """Return how each weight of a model is rounded in a bundle with these settings, see `roundings`."""
    return roundings(config, engine.weights, engine.tower_weights, engine.keep_float)


def roundings(
    config: ModelConfig, weights: str, tower_weights: str = FLOAT, keep_float: tuple[str, ...] = ()
) -> dict[str, Rounding]:
    """Return how each weight of a model is rounded; those that stay in floats are left out.

    Args:
        config: the model.
        weights: one of the runtime's `WEIGHTS`, of the decoder.
        tower_weights: one of its `TOWER_WEIGHTS`, of what lies between scorer and decoder.
        keep_float: patterns (`decoder.blocks.0.*`) of names of weights, or of modules, that stay in floats.

    Raises:
        UsageError: a pattern matches none of what would be rounded.
    """
    shapes = expected_tensors(config)
    chosen = {**decoder_roundings(shapes, weights), **tower_roundings(shapes, tower_weights, config)}
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


def decoder_roundings(shapes: Mapping[str, tuple[int, ...]], weights: str) -> dict[str, Rounding]:
    """Return how the decoder's matrices are rounded, of those with `shapes`; `weights` is one of `WEIGHTS`."""
    if weights == FLOAT:
        return {}
    chosen = {}
    for name, shape in shapes.items():
        if name.startswith("decoder.") and len(shape) == 2:
            exceptions = EXCEPTIONS.get(weights, {}).items()
            rounding = next((other for end, other in exceptions if name.endswith(end)), LINEARS[weights])
            rounding = HEAD if name in (_EMBEDDING, _HEAD) else rounding
            if shape[1] % (rounding.block or 1) == 0:
                chosen[name] = rounding
    return chosen


def tower_roundings(shapes: Mapping[str, tuple[int, ...]], weights: str, config: ModelConfig) -> dict[str, Rounding]:
    """Return how matrices from the tower's first packed block to the decoder are rounded."""
    if weights == FLOAT:
        return {}
    behind = tuple(f"vision_tower.blocks.{i}." for i in range(config.tower.first_packed_block, config.tower.blocks))
    return {
        name: TOWER[weights]
        for name, shape in shapes.items()
        if name.startswith((*behind, "connector.")) and len(shape) == 2
    }
