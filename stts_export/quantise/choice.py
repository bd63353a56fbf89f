"""Which weights of a model are rounded, and how: the one table of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from stts_export.checkpoint.expected import expected_tensors
from stts_export.errors import UsageError
from stts_export.quantise.rounding import ANY, FLOAT8, WHOLE, Rounding
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.backend import ONNXRUNTIME, TENSORRT, TENSORRT_RTX
from stts_runtime.bundle.manifest import FLOAT, EngineSettings


@dataclass(frozen=True)
class Choice:
    """How one engine gets one kind of weights."""

    linears: Rounding  # of the decoder's linear layers
    exceptions: Mapping[str, Rounding]  # those that are rounded otherwise, by the end of their names
    head: Rounding | None  # of head and embedding, a token's own row of which is all that tells it; None: floats
    opset: int = 20  # the oldest that has what its graph is made of
    is_fused: bool = True  # whether most products read numbers; else floats are made of them at every run, and read


BLOCK = 32
INT8 = Rounding(8, BLOCK)
INT4 = Rounding(4, BLOCK, offsets=WHOLE)
Q4_1 = Rounding(4, BLOCK, offsets=ANY)
"""A bit more a weight than `INT4`: for weights that lie on this grid of GGUF's already, which nothing else can say."""
INT8_ROWS = Rounding(8, None)
"""Twice as fast as floats where many rows are multiplied, and the coarsest: one scale for all that a product sums."""
# TensorRT fuses one scale a row into the product where whole numbers have 8 bits, and scales of blocks where they have
# 4; it takes no offsets. Scales are in the graph's half precision (`choice_of`). Head and embedding would
# be fused in rows of 8 bits, but one scale a row is too coarse for them (docs/quantisation.md).
FP8_ROWS = Rounding(8, None, floats=True)
INT4_BLOCKS = Rounding(4, BLOCK)
NVFP4 = Rounding(4, 16, floats=True, scales=FLOAT8)

_TENSORRT = {
    "int8": Choice(INT8_ROWS, {}, None, opset=21),  # half-precision scales came with 19
    "int4": Choice(INT4_BLOCKS, {}, None, opset=21),
    "fp8": Choice(FP8_ROWS, {}, None, opset=21, is_fused=False),
    "nvfp4": Choice(NVFP4, {}, None, opset=23, is_fused=False),
}
CHOICES: dict[str, dict[str, Choice]] = {
    ONNXRUNTIME.name: {
        # of all inputs, the gated ones differ most in size
        "int8": Choice(INT8_ROWS, {".mlp.down.weight": INT8}, INT8),
        "int4": Choice(INT4, {}, INT8),
        "q4_1": Choice(Q4_1, {}, INT8),
    },
    TENSORRT.name: _TENSORRT,
    TENSORRT_RTX.name: _TENSORRT,
}
"""Backend -> `--weights` -> what becomes of them."""
TOWER = {"int8": INT8_ROWS}
"""`--tower-weights` -> how linear layers of tower blocks and connector are rounded, for onnxruntime. The scorer's own
layers stay in floats, and so does the patch embedding: they are small, and nothing makes up for what they lose."""
_EMBEDDING, _HEAD = "decoder.embedding.weight", "decoder.head.weight"


def choice_of(backend: str, weights: str, precision: str) -> Choice | None:
    """Return how a backend gets such weights in graphs of a precision; None where all stay floats.

    Raises:
        UsageError: it takes none of that kind.
    """
    if weights == FLOAT:
        return None
    known = CHOICES[backend]
    if weights not in known:
        raise UsageError(f"--weights {weights}: {backend} takes {', '.join((FLOAT, *known))}")
    chosen = known[weights]
    if chosen.linears.scales == FLOAT8:
        return chosen
    return replace(chosen, linears=replace(chosen.linears, scales=precision))


def tower_weights_of(asked: str | None, weights: str, backend: str) -> str:
    """Return one of the runtime's `TOWER_WEIGHTS`: what is asked for, else 8 bits where onnxruntime's decoder has few.

    Who wants a small or a fast decoder on a CPU wants the rest so too: floats of a tower are a third of a bundle in 4
    bits, and most of the time before the first token.
    """
    if asked is not None:
        return asked
    return "int8" if backend == ONNXRUNTIME.name and weights != FLOAT else FLOAT


def roundings_of(engine: EngineSettings, config: ModelConfig) -> dict[str, Rounding]:
    """Return how each weight of a model is rounded in a bundle with these settings, see `roundings`."""
    choice = choice_of(engine.backend, engine.weights, engine.precision)
    return roundings(config, choice, engine.tower_weights, engine.keep_float)


def roundings(
    config: ModelConfig, choice: Choice | None, tower_weights: str = FLOAT, keep_float: tuple[str, ...] = ()
) -> dict[str, Rounding]:
    """Return how each weight of a model is rounded; those that stay in floats are left out.

    Args:
        config: the model.
        choice: of the decoder, see `choice_of`.
        tower_weights: one of the runtime's `TOWER_WEIGHTS`, of tower and connector.
        keep_float: patterns (`decoder.blocks.0.*`) of names of weights, or of modules, that stay in floats.

    Raises:
        UsageError: a pattern matches none of what would be rounded.
    """
    shapes = expected_tensors(config)
    chosen = {**decoder_roundings(shapes, choice), **tower_roundings(shapes, tower_weights)}
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


def decoder_roundings(shapes: Mapping[str, tuple[int, ...]], choice: Choice | None) -> dict[str, Rounding]:
    """Return how the decoder's matrices are rounded, of those with `shapes`."""
    if choice is None:
        return {}
    chosen = {}
    for name, shape in shapes.items():
        if name.startswith("decoder.") and len(shape) == 2:
            exceptions = (other for end, other in choice.exceptions.items() if name.endswith(end))
            rounding = choice.head if name in (_EMBEDDING, _HEAD) else next(exceptions, choice.linears)
            if rounding is not None and rounding.takes(shape[1]):
                chosen[name] = rounding
    return chosen


def tower_roundings(shapes: Mapping[str, tuple[int, ...]], weights: str) -> dict[str, Rounding]:
    """Return how the matrices of tower blocks and connector are rounded."""
    if weights == FLOAT:
        return {}
    rounded = ("vision_tower.blocks.", "connector.")
    return {name: TOWER[weights] for name, shape in shapes.items() if name.startswith(rounded) and len(shape) == 2}
