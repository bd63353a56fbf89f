"""Trace a part into an ONNX graph without any weight in memory."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import onnx_ir as ir
import torch
from accelerate import init_empty_weights
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stts_export.errors import ExportError
from stts_export.graph.blocks import marked_blocks
from stts_export.graph.numbers import numbered_names
from stts_export.graph.repeat import repeat_blocks
from stts_export.models.model import Model
from stts_export.models.parameters import swapped_parameters
from stts_export.parts import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.spec import GraphSpec


OPSET = 20  # Gelu with tanh is one operator from here on, and every engine we target reads it
TAP = "stts::Tap"

Capture = Callable[[Part], ir.Model]
"""What makes a part's graph anew at every call, free to be changed: `capture`, or one that remembers it."""


def weightless_model(config: ModelConfig) -> Model:
    """Return the model with parameters that have shapes but no storage; its small derived buffers are real."""
    with init_empty_weights(include_buffers=False):
        return Model(config).eval()


def capture(part: Part, *, whole: bool = False) -> ir.Model:
    """Return the part's graph: custom operators as single nodes, weights as named values without data.

    The parameters of the part's module may have no storage (see `weightless_model`). Of blocks that are alike two are
    traced, and repeated in the graph; with `whole` all are traced, which takes longer and gives the same graph.

    Raises:
        ExportError: if the module cannot be traced, or its inputs and outputs are not what the spec says.
    """
    weights = [name for name, _ in part.module.named_parameters()]
    if whole:
        model = trace(part).model
    else:
        with marked_blocks(part):
            model = trace(part).model
        repeat_blocks(model, weights)
    for value, numbered in numbered_names(model.graph).items():
        value.name = numbered
    for name in weights:
        if name in model.graph.initializers:
            model.graph.initializers[name].const_value = None
    check_bindings(model, part.spec)
    return model


def trace(part: Part) -> torch.onnx.ONNXProgram:
    """Return the part as torch traced it, beside the graph that was made of the trace; both without weights.

    Raises:
        ExportError: if the module cannot be traced.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = swapped_parameters(part.module, lambda _, own: torch.empty(own.shape, dtype=own.dtype))
    silent = warnings.catch_warnings(action="ignore")
    with mode, fakes, tapped(part), only_errors("torch.onnx"), silent, uncollected():
        try:
            program = torch.onnx.export(
                part.module,
                example_inputs(part.spec),
                dynamo=True,
                dynamic_shapes=dynamic_shapes(part.spec, part.module),
                input_names=[tensor.name for tensor in part.spec.inputs],
                output_names=[tensor.name for tensor in part.spec.outputs],
                opset_version=OPSET,
                optimize=False,  # its constant folding would read the weights
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"part {part.spec.name!r} cannot be traced: {error}") from error
    assert program is not None
    return program


@contextmanager
def tapped(part: Part) -> Iterator[None]:
    """Mark the output of each tap's submodule with a named node, which a pass turns into a value's name."""

    def mark(name: str, _module: nn.Module, _inputs: tuple, output: torch.Tensor | tuple) -> torch.Tensor | tuple:
        first, *rest = output if isinstance(output, tuple) else (output,)
        marked = torch.onnx.ops.symbolic(
            TAP, (first,), attrs={"name": name}, dtype=first.dtype, shape=first.shape, version=1
        )
        return (marked, *rest) if isinstance(output, tuple) else marked

    with ExitStack() as hooks:
        for path in part.spec.taps:
            hooks.enter_context(part.module.get_submodule(path).register_forward_hook(partial(mark, path)))
        yield


@contextmanager
def only_errors(logger_name: str) -> Iterator[None]:
    """Silence what a logger says about itself; its errors still come through."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from searching what a trace makes: objects by the hundred thousand, most in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def example_inputs(spec: GraphSpec) -> tuple[torch.Tensor, ...]:
    """Return fake inputs whose dynamic dimensions all differ, so that the tracer cannot take two for one."""
    sizes = {dim.name: 5 + 2 * place for place, dim in enumerate(spec.dims)}
    return tuple(
        torch.zeros(
            [size if isinstance(size, int) else sizes[size] for size in tensor.shape],
            dtype=getattr(torch, tensor.dtype),
        )
        for tensor in spec.inputs
    )


def dynamic_shapes(spec: GraphSpec, module: nn.Module) -> tuple:
    """Return the exporter's form of the spec's dynamic dimensions; trailing inputs of `*args` are one tuple."""
    symbols = {dim.name: torch.export.Dim(dim.name) for dim in spec.dims}
    shapes = [
        {axis: symbols[size] for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in spec.inputs
    ]
    code = module.forward.__code__
    if not code.co_flags & 0x04:  # CO_VARARGS
        return tuple(shapes)
    named = code.co_argcount - 1
    return (*shapes[:named], tuple(shapes[named:]))


def check_bindings(model: ir.Model, spec: GraphSpec) -> None:
    """Raise ExportError if the graph's inputs or outputs differ from the spec in name, order, dtype or fixed size."""
    for kind, values, tensors in (
        ("input", model.graph.inputs, spec.inputs),
        ("output", model.graph.outputs, spec.outputs),
    ):
        names, wanted = [value.name for value in values], [tensor.name for tensor in tensors]
        if names != wanted:
            raise ExportError(f"part {spec.name!r}: the graph's {kind}s are {names}, its spec says {wanted}")
        for value, tensor in zip(values, tensors, strict=True):
            assert value.shape is not None
            assert value.dtype is not None
            dtype = value.dtype.numpy().name
            if dtype != tensor.dtype or len(value.shape) != len(tensor.shape):
                raise ExportError(
                    f"part {spec.name!r}: {kind} {tensor.name!r} is {dtype} {value.shape}, "
                    f"its spec says {tensor.dtype} {list(tensor.shape)}"
                )
            for axis, (got, want) in enumerate(zip(value.shape, tensor.shape, strict=True)):
                if isinstance(want, int) and got != want:
                    raise ExportError(f"part {spec.name!r}: {kind} {tensor.name!r} axis {axis} is {got}, not {want}")
                if isinstance(want, str):
                    if isinstance(got, int):
                        raise ExportError(
                            f"part {spec.name!r}: {kind} {tensor.name!r} axis {axis} ({want}) was fixed to {got} "
                            "while tracing; something in the module reads it as a number"
                        )
                    value.shape[axis] = ir.SymbolicDim(want)
