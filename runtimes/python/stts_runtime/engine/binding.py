"""The arrays of an onnxruntime session's runs: checked and bound, and from one run to the next only those that changed.

A decode step has some hundred and thirty arrays, of which ten are others than at the step before: to check and bind
them all takes longer than a tenth of what the step does.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from stts_runtime.bundle.spec import GraphSpec, TensorSpec, check_arrays, storage_dtype
from stts_runtime.engine.memory import Array
from stts_runtime.errors import EngineError


_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16: where numpy has no dtype, bindings take ONNX's number


class Binding:
    """A session's inputs and outputs, bound to arrays on the host; for one run at a time.

    Arrays are not kept alive: those of the last run are known again as the same objects, and whatever is gone or
    another is bound anew before the next. So it is of use only where a bound array is read when the graph runs, as on
    the CPU; onnxruntime copies to other devices when it binds.
    """

    def __init__(self, session: Any, spec: GraphSpec) -> None:
        """Bind nothing yet.

        Args:
            session: onnxruntime's.
            spec: what is bound of its inputs and outputs.
        """
        self.handle = session.io_binding()
        self._spec = spec
        self._bound: dict[str, tuple[weakref.ref[np.ndarray], tuple[int, ...]]] = {}
        self._sizes: dict[str, int] = {}

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, int]:
        """Bind what a run is given, see `Engine.run`, and return the value of every symbol in its shapes.

        Raises:
            EngineError: an array is missing, not of the spec's dtype or shape, not C-contiguous, or read-only where it
                is to be written; then the binding is of no use any more.
        """
        spec = self._spec
        new_inputs = [tensor for tensor in spec.inputs if self._is_another(tensor.name, inputs)]
        new_outputs = [tensor for tensor in spec.outputs if self._is_another(tensor.name, outputs)]
        changed = {tensor.name: host_array(inputs.get(tensor.name), tensor, spec.name) for tensor in new_inputs}
        changed |= {tensor.name: host_array(outputs.get(tensor.name), tensor, spec.name) for tensor in new_outputs}
        if not self._fit(new_inputs, changed) or not self._fit(new_outputs, changed):
            given = {tensor.name: inputs.get(tensor.name) for tensor in spec.inputs}
            given |= {tensor.name: outputs.get(tensor.name) for tensor in spec.outputs}
            self._sizes = check_arrays(spec, {name: array for name, array in given.items() if array is not None})
        for tensor in new_outputs:
            if not changed[tensor.name].flags.writeable:
                raise EngineError(f"graph {spec.name!r}, {tensor.name!r}: the output array is read-only")
        for tensor in new_inputs:
            self._bind(self.handle.bind_input, tensor, changed[tensor.name])
        for tensor in new_outputs:
            self._bind(self.handle.bind_output, tensor, changed[tensor.name])
        return self._sizes

    def _is_another(self, name: str, given: Mapping[str, Array]) -> bool:
        """Return whether the array of a name is not the one that is bound, as it was then."""
        held, array = self._bound.get(name), given.get(name)
        if held is None or not isinstance(array, np.ndarray):
            return True
        return array.shape != held[1] or held[0]() is not array

    def _fit(self, tensors: list[TensorSpec], arrays: Mapping[str, np.ndarray]) -> bool:
        """Return whether arrays are of the spec's dtype and shape at the sizes of the last run."""
        return all(
            arrays[tensor.name].dtype == storage_dtype(tensor.dtype)
            and arrays[tensor.name].shape
            == tuple(self._sizes.get(size) if isinstance(size, str) else size for size in tensor.shape)
            for tensor in tensors
        )

    def _bind(self, bind: Any, tensor: TensorSpec, array: np.ndarray) -> None:
        bind(tensor.name, "cpu", 0, element_type(tensor), array.shape, array.ctypes.data)
        self._bound[tensor.name] = weakref.ref(array), array.shape


def element_type(tensor: TensorSpec) -> np.dtype | int:
    """Return what a binding calls the type of the tensor's elements."""
    return _BFLOAT16 if tensor.dtype == "bfloat16" else np.dtype(tensor.dtype)


def host_array(array: Array | None, tensor: TensorSpec, graph: str) -> np.ndarray:
    """Return `array` if onnxruntime can be given its address.

    Raises:
        EngineError: it is missing, no array of numpy's, or does not lie in memory row by row.
    """
    if isinstance(array, np.ndarray) and array.flags.c_contiguous:
        return array
    got = "none" if array is None else type(array).__name__
    if isinstance(array, np.ndarray):
        got = f"{array.dtype} {list(array.shape)} with strides {list(array.strides)}"
    raise EngineError(
        f"graph {graph!r}, {tensor.name!r}: wanted {tensor.dtype} {list(tensor.shape)}, C-contiguous, in numpy; "
        f"got {got}"
    )
