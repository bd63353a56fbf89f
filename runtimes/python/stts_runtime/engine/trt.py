"""TensorRT engines, 8.6 to 11 and TensorRT-RTX: built on the device or for it, run on one stream with all else.

Every profile of an engine has an execution context and scratch memory of its own, both made when the engine opens, so
that missing memory is missed then. What the host gives goes through page-locked memory into buffers that stay where
they are; what lies on the device is bound as it is; only outputs that the caller wants on the host are copied back.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime.bundle.engine_choice import find_engine_set
from stts_runtime.bundle.engine_set import ENGINES
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plugin_library import library_of
from stts_runtime.bundle.spec import GraphSpec, TensorSpec, check_arrays
from stts_runtime.engine import Arrays
from stts_runtime.engine.cuda_graph import Replay, wanted_from_environment
from stts_runtime.engine.device_memory import ALIGNMENT, DeviceArray, DeviceMemory, SharedMemory, aligned
from stts_runtime.engine.memory import Array
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import Bindings, import_bindings
from stts_runtime.trt.dialect import can_be_captured, context_memory_size, create_context, set_context_memory
from stts_runtime.trt.layout import EngineProfile, profile_for, read_layout
from stts_runtime.trt.messages import Messages, collecting_logger
from stts_runtime.trt.plugins import register_plugins


_MOST_MESSAGES = 4096


def open_trt_engine(bundle: Bundle, part: str, shared: SharedMemory) -> TrtEngine:
    """Return the engine of a part, see `open_engine`.

    Raises:
        EngineError: TensorRT, CUDA or a GPU is missing, no engine of the bundle is for this device and version, or its
            plugins cannot be loaded here.
    """
    bindings = import_bindings(bundle.manifest.engine.backend)
    wanted_from_environment()  # a wrong setting is refused before gigabytes are read
    memory = shared.join()
    try:
        if bundle.manifest.engine.has_plugins:  # known to TensorRT before an engine names them
            register_plugins(bindings, library_of(bundle), _logger_of(bindings)[1])
        engines = find_engine_set(bundle, bindings.version, memory.cuda.compute_capability)
        path = bundle.path / ENGINES / engines.folder / engines.file_of(part).file
        return TrtEngine(bindings, path, bundle.manifest.graphs[part].spec, memory, shared.leave)
    except BaseException:
        shared.leave()
        raise


Signature = tuple[tuple[tuple[int, ...], np.dtype], ...]
"""Shape and dtype of every array of a run: what was checked once need not be checked again at every token."""


@dataclass
class Context:
    """An execution context of one profile, and how it is set."""

    profile: EngineProfile  # what shapes it takes
    handle: Any  # TensorRT's
    kept: Any  # what must live as long
    scratch: DeviceArray  # its memory
    replay: Replay  # its recorded run
    signature: Signature = ()  # shapes and dtypes of all tensors, as they are set
    addresses: tuple[int, ...] = ()  # of all tensors, as they are set


class TrtEngine:
    """A deserialized engine with a context for each of its profiles."""

    def __init__(
        self, bindings: Bindings, file: Path, spec: GraphSpec, memory: DeviceMemory, leave: Callable[[], None]
    ) -> None:
        """Load the engine.

        Args:
            bindings: the TensorRT that built it.
            file: the engine.
            spec: the graph's contract.
            memory: joined for this engine.
            leave: called once the engine is closed, and needs the memory no more.

        Raises:
            EngineError: TensorRT refuses the file, it is not this graph's, or there is no memory for it.
        """
        self.memory = memory
        self._bindings, self._spec, self._leave = bindings, spec, leave
        self._buffers: dict[str, DeviceArray] = {}
        self._contexts: list[Context] = []
        self._signature: Signature = ()
        self._current = 0  # index of the context that the last run was for
        self._is_step = False
        logger, self._messages = _logger_of(bindings)
        self._mark = len(self._messages.all)
        self._runtime = bindings.module.Runtime(logger)
        try:
            self._engine: Any = self._deserialized(file)
            self._layout = read_layout(bindings, self._engine, spec)
            for profile in self._layout.profiles:
                self._contexts.append(self._new_context(profile))
        except BaseException:
            self._release()
            raise

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once, see `Engine.run`.

        Raises:
            EngineError: see `Engine.run`.
            LimitError: a shape that the engine was not built for.
        """
        with self.memory.lock:  # of the whole run: contexts, and which of them is meant, are one for all threads
            if self._engine is None:
                raise EngineError(f"graph {self._spec.name!r} was closed: its engine is gone, load the bundle again")
            arrays = self._checked(inputs, outputs)
            signature = tuple((array.shape, array.dtype) for array in arrays.values())
            if signature != self._signature:
                sizes = check_arrays(self._spec, arrays)
                self._current = profile_for(self._layout, sizes).index
                self._is_step = self._spec.is_step(sizes)
                self._signature = signature
            context = self._contexts[self._current]
            self._start_listening()
            self.memory.staging.begin(sum(aligned(a.nbytes) for a in arrays.values() if isinstance(a, np.ndarray)))
            addresses = {tensor.name: self._feed(tensor, arrays[tensor.name]) for tensor in self._layout.inputs}
            self.memory.staging.end()
            addresses |= {tensor.name: self._place(tensor, arrays[tensor.name]) for tensor in self._spec.outputs}
            if signature != context.signature:
                self._set_shapes(context, arrays, signature)
            if tuple(addresses.values()) != context.addresses:
                self._set_addresses(context, addresses)
            if self._is_step:
                context.replay.run((context.signature, context.addresses), lambda: self._enqueue(context))
            else:  # other shapes than a step's: whatever was recorded was dropped when they were set
                self._enqueue(context)
            self._fetch(arrays, addresses)

    def close(self) -> None:
        """Release engine and memory; arrays of its memory live until the bundle's last engine is closed."""
        with self.memory.lock:  # a run of another thread ends first
            if self._engine is None:
                return
            try:
                self._release()
            finally:
                self._leave()

    def _release(self) -> None:
        """Give back what TensorRT holds, contexts before the engine and the engine before the runtime."""
        try:
            self.memory.cuda.synchronize(self.memory.stream)
            for context in self._contexts:
                context.replay.drop()
        finally:  # after a fault on the GPU every call fails, and the host's side must go all the same
            self._contexts.clear()
            self._buffers.clear()
            self._signature = ()
            self._engine = None
            self._runtime = None

    def _deserialized(self, file: Path) -> Any:
        """Return the engine in `file`, which is mapped: a second copy of the weights may not fit beside the first."""
        try:
            with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                engine = self._runtime.deserialize_cuda_engine(content)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise EngineError(f"{file} cannot be read ({error}): build the engines again") from error
        if engine is None:
            raise EngineError(
                f"{self._bindings.title} refuses {file.parent.name}/{file.name}: {self._explanation()}. Build the "
                "engines again: `stts-runtime build BUNDLE`"
            )
        return engine

    def _new_context(self, profile: EngineProfile) -> Context:
        memory, part = self.memory, self._spec.name
        largest = {name: high for name, (_, high) in profile.ranges.items()}
        captures = wanted_from_environment() and self._spec.is_step(largest)
        handle, kept = create_context(self._bindings, self._engine, captures)
        if handle is None:
            raise EngineError(f"{self._bindings.title} makes no context of {part!r}: {self._explanation()}")
        size = context_memory_size(self._engine, profile.index)
        scratch = memory.array((size,), np.dtype(np.uint8))
        set_context_memory(handle, scratch.pointer, size)
        self._demand(handle.set_optimization_profile_async, profile.index, int(memory.stream))
        on = wanted_from_environment() and can_be_captured(self._bindings)
        return Context(profile, handle, kept, scratch, Replay(memory, f"decoding with {part!r}", on))

    def _checked(self, inputs: Arrays, outputs: Arrays) -> dict[str, Array]:
        """Return all arrays of a run by name; extra ones are left out.

        Raises:
            EngineError: one is missing, lies in the memory of another session's engines, or is read-only.
        """
        arrays: dict[str, Array] = {}
        for tensors, given in ((self._spec.inputs, inputs), (self._spec.outputs, outputs)):
            for tensor in tensors:
                if tensor.name not in given:
                    continue  # which is refused with what does not fit the spec
                array = given[tensor.name]
                if isinstance(array, DeviceArray):
                    if array.memory is not self.memory:
                        raise EngineError(f"graph {self._spec.name!r}, {tensor.name!r}: an array of another session")
                elif not isinstance(array, np.ndarray):
                    raise EngineError(f"graph {self._spec.name!r}, {tensor.name!r}: got {type(array).__name__}")
                elif given is outputs and not array.flags.writeable:
                    raise EngineError(f"graph {self._spec.name!r}, {tensor.name!r}: the output array is read-only")
                arrays[tensor.name] = array
        return arrays

    def _feed(self, tensor: TensorSpec, array: Array) -> int:
        """Return where the engine reads an input, and put on the stream what brings it there."""
        memory, name = self.memory, tensor.name
        if isinstance(array, DeviceArray):
            pointer = array.pointer
            if pointer % ALIGNMENT == 0:
                return pointer
            buffer = self._buffer(name, array.nbytes)
            if array.nbytes:
                memory.cuda.copy(buffer, pointer, array.nbytes, memory.stream)
            return buffer
        source, dtype = np.asarray(array), self._layout.dtypes[name]
        size = source.size * dtype.itemsize
        buffer = self._buffer(name, size)
        if size:
            staged = memory.staging.take(source.shape, dtype)
            # int64 becomes int32 for 8.6: positions, token ids and indices all fit, EMPTY_POSITION is the largest
            np.copyto(staged, source, casting="same_kind")
            memory.cuda.to_device(buffer, staged.ctypes.data, size, memory.stream)
        return buffer

    def _place(self, tensor: TensorSpec, array: Array) -> int:
        """Return where the engine writes an output: into the array itself if it lies on the device and is aligned."""
        if isinstance(array, DeviceArray):
            pointer = array.pointer
            if pointer % ALIGNMENT == 0:
                return pointer
        return self._buffer(tensor.name, prod(array.shape) * self._layout.dtypes[tensor.name].itemsize)

    def _buffer(self, name: str, size: int) -> int:
        """Return the address of a tensor's own buffer, which stays the same until more room is needed."""
        if name not in self._buffers or self._buffers[name].nbytes < size:
            self._buffers.pop(name, None)  # given back first: the two need not fit side by side
            self._buffers[name] = self.memory.array((aligned(size),), np.dtype(np.uint8))
        return self._buffers[name].pointer

    def _set_shapes(self, context: Context, arrays: dict[str, Array], signature: Signature) -> None:
        """Set all shapes, and check that what TensorRT means to write has room."""
        context.replay.drop()
        context.signature = ()
        for tensor in self._layout.inputs:
            self._demand(context.handle.set_input_shape, tensor.name, tuple(arrays[tensor.name].shape))
        for tensor in self._spec.outputs:
            got, room = tuple(context.handle.get_tensor_shape(tensor.name)), tuple(arrays[tensor.name].shape)
            if got != room:
                raise EngineError(
                    f"graph {self._spec.name!r}, {tensor.name!r}: the engine gives {list(got)}, there is room for "
                    f"{list(room)}"
                )
        context.signature = signature

    def _set_addresses(self, context: Context, addresses: dict[str, int]) -> None:
        context.addresses = ()
        for name, address in addresses.items():
            self._demand(context.handle.set_tensor_address, name, address)
        context.addresses = tuple(addresses.values())

    def _enqueue(self, context: Context) -> None:
        self._demand(context.handle.execute_async_v3, int(self.memory.stream))

    def _fetch(self, arrays: dict[str, Array], addresses: dict[str, int]) -> None:
        """Bring outputs to arrays that the engine could not write itself; waits only if one is the host's."""
        memory, staged = self.memory, []
        for tensor in self._spec.outputs:
            array, address = arrays[tensor.name], addresses[tensor.name]
            if not isinstance(array, DeviceArray):
                target = np.asarray(array)
                if target.size:
                    piece = memory.staging.take(target.shape, self._layout.dtypes[tensor.name])
                    memory.cuda.to_host(piece.ctypes.data, address, piece.nbytes, memory.stream)
                    staged.append((target, piece))
            elif address != array.pointer and array.nbytes:
                memory.cuda.copy(array.pointer, address, array.nbytes, memory.stream)
        if staged:
            memory.cuda.synchronize(memory.stream)
        for target, piece in staged:
            np.copyto(target, piece)

    def _demand(self, call: Callable[..., bool], *arguments: Any) -> None:
        """Make a call of TensorRT that says whether it succeeded.

        Raises:
            EngineError: it did not; with what TensorRT said.
        """
        try:
            done = call(*arguments)
        except (RuntimeError, ValueError) as error:  # some versions raise where others return False
            self._messages.add(0, str(error))
            done = False
        if not done:
            said = ", ".join(map(str, arguments))
            raise EngineError(
                f"graph {self._spec.name!r}: {self._bindings.title} refuses {call.__name__}({said}): "
                f"{self._explanation()}"
            )

    def _start_listening(self) -> None:
        if len(self._messages.all) > _MOST_MESSAGES:
            del self._messages.all[: _MOST_MESSAGES // 2]
        self._mark = len(self._messages.all)

    def _explanation(self) -> str:
        """Return what TensorRT said since this engine's last call began."""
        recent = Messages()
        recent.all = self._messages.all[self._mark :]
        return recent.explanation()


@cache
def _logger_of(bindings: Bindings) -> tuple[Any, Messages]:
    """Return the one logger of a TensorRT: it keeps the first it is given for good, and would call a freed one."""
    messages = Messages()
    return collecting_logger(bindings.module, messages, verbose=False), messages
