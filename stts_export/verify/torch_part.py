"""A part run in torch: as an engine, with its weights in memory only as long as wanted, and inner values recorded."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stts_export.checkpoint.records import Checkpoint
from stts_export.models.parameters import swapped_parameters
from stts_export.parts import Part
from stts_runtime.bundle.manifest import GraphEntry, Manifest
from stts_runtime.bundle.spec import check_arrays
from stts_runtime.engine import Arrays, HostMemory
from stts_runtime.errors import VerificationError
from stts_runtime.verify.reference import Value, kept_rows, row_count


Recorded = dict[str, tuple[Value, NDArray[np.float32]]]
"""Name -> the value and its kept rows."""


def loaded_weights(part: Part, checkpoint: Checkpoint) -> AbstractContextManager[None]:
    """Give the part's parameters their float32 weights inside the `with` block, and what they were afterwards.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    return swapped_parameters(part.module, lambda name, _: checkpoint.tensors[name].read(torch.float32))


class TorchEngine:
    """A part as an `Engine`; its weights must be there, see `loaded_weights`."""

    def __init__(self, part: Part, call: Callable[[Part, Mapping[str, NDArray]], dict[str, NDArray]] | None = None):
        """Hold a part.

        Args:
            part: what is run.
            call: runs it on inputs by name and returns its outputs; default `run_part`.
        """
        self._part, self._call = part, call or run_part
        self.memory = HostMemory()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the part once, see `Engine.run`."""
        check_arrays(self._part.spec, {**inputs, **outputs})
        given = {tensor: cast(NDArray, array) for tensor, array in inputs.items()}  # its memory is the host's
        for name, output in self._call(self._part, given).items():
            np.copyto(cast(NDArray, outputs[name]), output)

    def close(self) -> None:
        """Do nothing: the weights are whose who gave them."""


def torch_manifest(manifest: Manifest, parts: Iterable[Part]) -> Manifest:
    """Return what the runtime must know where not a bundle's engines run but its parts in torch, in float32."""
    return replace(manifest, graphs={part.spec.name: GraphEntry("", part.spec) for part in parts})


def run_part(part: Part, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return the part's outputs by name; its weights must be there, see `loaded_weights`."""
    return {name: output.numpy() for name, output in _call(part, inputs).items()}


def record_part(part: Part, inputs: Mapping[str, NDArray], case: str) -> tuple[dict[str, NDArray], Recorded]:
    """Return the part's outputs, and the kept rows of its taps and of those outputs that are no taps.

    Raises:
        VerificationError: the model itself overflows, so there is nothing to compare with.
    """
    recorded: Recorded = {}
    tapped: dict[str, weakref.ref[Tensor]] = {}

    def record(name: str, tensor: Tensor) -> None:
        if not bool(tensor.isfinite().all()):
            raise VerificationError(
                f"the model itself gives NaN or infinite values at {name} of {part.spec.name} ({case}), before any "
                "graph is involved: its weights are damaged, or do not belong to this configuration"
            )
        rows = kept_rows(row_count(tensor.shape))
        value = Value(name, name, tuple(tensor.shape), float(tensor.abs().max()) if tensor.numel() else 0.0)
        recorded[name] = value, tensor.reshape(-1, tensor.shape[-1]).float().numpy()[rows]

    def hook(path: str) -> RemovableHandle:
        def record_tap(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            record(path, tensor)
            tapped[path] = weakref.ref(tensor)

        return part.module.get_submodule(path).register_forward_hook(record_tap)

    hooks = [hook(path) for path in part.spec.taps]
    try:
        outputs = _call(part, inputs)
    finally:
        for handle in hooks:
            handle.remove()
    for name, output in outputs.items():
        same = next((path for path, tap in tapped.items() if tap() is output), None)
        if same is None:
            record(name, output)
        else:  # the graph may know this value by the output's name alone
            value, rows = recorded[same]
            recorded[same] = replace(value, binding=name), rows
    return {name: output.numpy() for name, output in outputs.items()}, recorded


def _call(part: Part, inputs: Mapping[str, NDArray]) -> dict[str, Tensor]:
    with torch.inference_mode():
        arguments = [torch.from_numpy(np.ascontiguousarray(inputs[tensor.name])) for tensor in part.spec.inputs]
        outputs = part.module(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {tensor.name: output for tensor, output in zip(part.spec.outputs, outputs, strict=True)}
