"""Blocks that are alike: which are traced, and that the graph is the one of a whole trace all the same."""

from dataclasses import replace

import pytest
import torch
from reference.graph_lines import graph_lines
from reference.toy_bundle import LIMITS, toy_config
from torch import nn

from stts_export.errors import ExportError
from stts_export.graph.blocks import repeatable_blocks
from stts_export.graph.capture import capture, weightless_model
from stts_export.parts import Part, parts_of
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec


class Log:
    """What was traced; a list of the module's own would be put back by the tracer."""

    def __init__(self):
        self.layers = []


class Block(nn.Module):
    """Adds what a layer makes of the stream, and of what all blocks are given; tells which of them was traced."""

    def __init__(self, traced, factor=2.0):
        super().__init__()
        self.layer, self.factor, self._traced = nn.Linear(4, 4), factor, traced

    def forward(self, x, given, add):
        self._traced.layers.append(self.layer)
        return x + add(self.layer(x) * self.factor, given), x * 3.0


class Stack(nn.Module):
    """Blocks, each with an output of its own."""

    def __init__(self, *factors):
        super().__init__()
        self.traced = Log()
        self.blocks = nn.ModuleList(Block(self.traced, factor) for factor in factors)

    def forward(self, x, given):
        sides = []

        def add(made, given):
            return made + given.sum(0)

        for block in self.blocks:
            x, side = block(x, given, add)
            sides.append(side)
        return (self.last(x), *sides)

    def last(self, x):
        return x * 5.0

    def numbers(self):
        """Return which blocks were traced, in order."""
        layers = [block.layer for block in self.blocks]
        return [layers.index(layer) for layer in self.traced.layers]


def part_of(module, taps=()):
    sides = [f"side_{place}" for place in range(len(module.blocks))]
    spec = GraphSpec(
        "stack",
        inputs=(TensorSpec("x", "float32", ("T", 4)), TensorSpec("given", "float32", ("S", 4))),
        outputs=tuple(TensorSpec(name, "float32", ("T", 4)) for name in ("y", *sides)),
        dims=(Dim("T", 1, 4, 8), Dim("S", 1, 4, 8)),
        values=taps,
    )
    return Part(spec, module.eval())


@pytest.mark.parametrize(
    ("factors", "traced"),
    [
        ([2.0] * 5, [0, 1]),
        ([2.0, 2.0, 2.0, 7.0, 2.0, 7.0, 7.0], [0, 1, 3, 5]),
        ([2.0, 7.0], [0, 1]),
        ([], []),
    ],
)
def test_two_of_a_kind_are_traced_and_the_graph_is_the_whole_ones(factors, traced):
    module = Stack(*factors)
    part = part_of(module, taps=tuple(f"blocks.{place}" for place in range(len(factors))))
    found = graph_lines(capture(part))
    assert module.numbers() == traced
    module.traced.layers.clear()
    assert found == graph_lines(capture(part, whole=True))
    assert module.numbers() == list(range(len(factors)))


class Buffered(Stack):
    def __init__(self, *factors):
        super().__init__(*factors)
        for block in self.blocks:
            block.register_buffer("scale", torch.tensor(len(self.blocks)), persistent=False)


class Tied(Stack):
    def __init__(self, *factors):
        super().__init__(*factors)
        for block in self.blocks:
            block.layer.weight = self.blocks[0].layer.weight


def test_blocks_with_more_of_their_own_than_weights_are_all_traced():
    module = Buffered(2.0, 2.0, 2.0)
    part = part_of(module)
    found = graph_lines(capture(part))
    assert module.numbers() == [0, 1, 2]
    assert found == graph_lines(capture(part, whole=True))


def test_a_block_whose_weights_are_anothers_or_with_a_tap_inside_is_none_that_is_repeated():
    assert list(repeatable_blocks(part_of(Tied(2.0, 2.0, 2.0)))) == ["blocks.0"]
    tapped = part_of(Stack(2.0, 2.0, 2.0), taps=("blocks.1.layer", "blocks.2"))
    assert list(repeatable_blocks(tapped)) == ["blocks.0", "blocks.2"]


class Own(Stack):
    """Gives each block an object of its own, which may be anything."""

    def forward(self, x, given):
        sides = []
        for place, block in enumerate(self.blocks):
            x, side = block(x, given, lambda made, given, place=place: made * place + given.sum(0))
            sides.append(side)
        return (x, *sides)


class Shapes(Stack):
    """Gives its last block as many rows as it has, where others are given one."""

    def forward(self, x, given):
        *most, last = self.blocks
        sides = []
        for block in most:
            x, side = block(x, given, torch.add)
            sides.append(side)
        x, side = last(x, x * 2.0, torch.add)
        return (x, *sides, side)


@pytest.mark.parametrize(("kind", "traced"), [(Own, [0, 1, 2, 3]), (Shapes, [0, 1, 3])])
def test_blocks_that_are_called_otherwise_are_of_another_kind(kind, traced):
    module = kind(2.0, 2.0, 2.0, 2.0)
    spec = part_of(module).spec
    if kind is Shapes:
        spec = replace(spec, inputs=(spec.inputs[0], TensorSpec("given", "float32", (1, 4))), dims=spec.dims[:1])
    found = graph_lines(capture(Part(spec, module.eval())))
    assert module.numbers() == traced
    assert found == graph_lines(capture(Part(spec, module), whole=True))


class Sideways(Stack):
    """Reads what its blocks make behind their backs."""

    def forward(self, x, given):
        made, sides = [], []

        def add(inner, given):
            made.append(inner + given.sum(0))
            return made[-1]

        for block in self.blocks:
            x, side = block(x, given, add)
            sides.append(side)
        return (x + torch.stack(made).sum(0), *sides)


def test_a_block_that_hands_on_what_it_does_not_return_is_told():
    with pytest.raises(ExportError, match=r"blocks\.1 hands on a value that it does not return, so blocks\.2 cannot"):
        capture(part_of(Sideways(2.0, 2.0, 2.0)))


def test_a_module_is_as_it_was_after_its_trace_and_after_one_that_failed():
    class Fails(Stack):
        def last(self, x):
            raise ValueError("no such thing")

    for module in (Stack(2.0, 2.0, 2.0), fails := Fails(2.0, 2.0, 2.0)):
        part = part_of(module)
        if module is fails:
            with pytest.raises(ExportError, match=r"'stack' cannot be traced.*"):
                capture(part)
        else:
            capture(part)
        assert not any("forward" in vars(block) for block in module.blocks)


DEEP = {
    "qwen3": toy_config("qwen3", "learned"),
    "olmo3": toy_config("olmo3", "cosine"),
}


def deep_parts(kind, packing, plugins=False):
    """Return the parts of a toy whose tower and decoder are deep enough for blocks to be repeated everywhere."""
    config = DEEP[kind]
    tower = replace(config.tower, blocks=9, taps=(8, 6), score_after=3)
    decoder = replace(config.decoder, layers=7)
    if decoder.yarn is not None:
        decoder = replace(decoder, yarn=replace(decoder.yarn, layers=(3, 4, 6)))
    config = replace(config, tower=tower, decoder=decoder)
    parts = parts_of(weightless_model(config), config, replace(LIMITS, max_rows=4), packing, plugins=plugins)
    return {part.spec.name: part for part in parts}


VISION = ("vision_score", "vision_encode", "vision_dense", "vision_image")
DECODERS = ("decoder", "decoder_rows")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "packing", "plugins", "names"),
    [
        ("qwen3", "ffd", False, VISION),
        ("qwen3", "ffd", False, DECODERS),
        ("olmo3", "ragged", False, VISION[:2]),
        ("olmo3", "ragged", False, DECODERS),
        ("qwen3", "ragged", True, (*VISION[:2], "vision_select", "decoder")),
    ],
)
def test_every_part_is_what_a_whole_trace_makes_of_it(kind, packing, plugins, names):
    parts = deep_parts(kind, packing, plugins)
    for name in names:
        assert graph_lines(capture(parts[name])) == graph_lines(capture(parts[name], whole=True)), name
