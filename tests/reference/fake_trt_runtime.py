"""TensorRT's runtime, played: engines that run a graph by onnxruntime, or a Python function, in a fake GPU's memory.

Each version has the calls that version has and no others; what 8.6.0 and RTX 1.7.1 have was read from the packages.
Rules that the real one states are held to: profiles, addresses that are multiples of 256, scratch memory of the size
asked for, no recording of the first run with new shapes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from reference.fake_cuda import FakeCuda
from stts_runtime.bundle.spec import GraphSpec, storage_dtype


Ranges = Mapping[str, tuple[int, int]]

FUNCTIONS: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {}
"""What engines of `engine_bytes(..., run="function:NAME")` do."""

VERSIONS = {
    "8.6.0": "tensorrt",
    "10.3.0": "tensorrt",
    "10.16.2": "tensorrt",
    "11.4.1": "tensorrt",
    "1.7.1.116": "tensorrt_rtx",
}


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = 0, 1, 2


class TensorLocation(IntEnum):
    DEVICE, HOST = 0, 1


class DataType(IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = 0, 1, 2


class CudaGraphStrategy(IntEnum):
    DISABLED, WHOLE_GRAPH_CAPTURE = 0, 1


TYPES = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "bfloat16": DataType.BF16,
    "int64": DataType.INT64,
    "int32": DataType.INT32,
    "bool": DataType.BOOL,
}


class ILogger:
    def log(self, severity: int, text: str) -> None:
        raise NotImplementedError


def engine_bytes(
    spec: GraphSpec,
    run: str,
    profiles: Sequence[Ranges],
    version: str,
    scratch: int = 4096,
    changes: Mapping[str, Any] | None = None,
) -> bytes:
    """Return an engine file.

    Args:
        spec: the graph's contract.
        run: the ONNX file that says what it computes, or `function:NAME`.
        profiles: smallest and largest value of each symbol.
        version: which TensorRT built it; 8.6 makes int32 of int64.
        scratch: bytes of a context of the first profile; the next wants twice as many, and so on.
        changes: other entries: `gives` for symbols of outputs alone ({"K": (9, "T", 1)} is 9 T + 1), or what is not as
            it should be.
    """
    int32 = version.startswith("8.")
    tensors = {
        tensor.name: {
            "mode": mode,
            "dtype": "int32" if int32 and tensor.dtype == "int64" else tensor.dtype,
            "shape": tensor.shape,
            "location": "DEVICE",
        }
        for mode, tensors in (("INPUT", spec.inputs), ("OUTPUT", spec.outputs))
        for tensor in tensors
    }
    data = {"version": version, "run": run, "tensors": tensors, "profiles": list(profiles), "scratch": scratch}
    return json.dumps({**data, **(changes or {})}).encode()


def profiles_of_spec(spec: GraphSpec) -> list[dict[str, tuple[int, int]]]:
    """Return the profiles that a build makes: one for all, and a second for the decode step."""
    ranges, step = ({dim.name: (dim.minimum, dim.maximum) for dim in dims} for dims in (spec.dims, spec.step))
    return [ranges, ranges | step] if step else [ranges]


class PluginRegistry:
    """Takes any file for a library of one of our plugins, but for an empty one."""

    def __init__(self) -> None:
        self.all_creators: list[Any] = []
        self.loaded: list[str] = []

    def load_library(self, plugin_path: str) -> None:
        self.loaded.append(plugin_path)
        if Path(plugin_path).stat().st_size:
            self.all_creators.append(SimpleNamespace(name="SttsPackTokens"))


def fake_tensorrt(version: str, cuda: FakeCuda) -> ModuleType:
    """Return a module that passes for this version of TensorRT on the fake GPU.

    Its attribute `made` lists all contexts, and `refuses_capture` makes them fail while they are recorded.
    """
    module: Any = ModuleType(VERSIONS[version])
    module.__spec__ = ModuleSpec(VERSIONS[version], None)  # torch asks for it of all that it finds
    old, rtx = version.startswith("8."), VERSIONS[version] == "tensorrt_rtx"
    module.__version__, module.ILogger = version, ILogger
    module.TensorIOMode, module.TensorLocation, module.DataType = TensorIOMode, TensorLocation, DataType
    module.cuda, module.made, module.refuses_capture = cuda, [], False
    module.engine_class = Engine86 if old else EngineRtx if rtx else Engine11 if version.startswith("11") else Engine10
    module.context_class = Context86 if old else Context10 if version.startswith("10") else Context11
    module.Runtime = lambda logger: Runtime(module, logger)
    if not old:
        registry = PluginRegistry()
        module.get_plugin_registry = lambda: registry
    if not old:
        module.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    if rtx:
        module.CudaGraphStrategy = CudaGraphStrategy
    return module


class Runtime:
    def __init__(self, module: Any, logger: ILogger) -> None:
        self._module, self._logger = module, logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        try:
            data = json.loads(bytes(serialized_engine))
        except ValueError:
            self._logger.log(1, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magicTag differs)")
            return None
        if data["version"] != self._module.__version__:
            self._logger.log(1, f"The engine plan file is not compatible: expecting library {data['version']}")
            return None
        return self._module.engine_class(self._module, data, self._logger)


class _Engine:
    def __init__(self, module: Any, data: dict[str, Any], logger: ILogger) -> None:
        self._module, self._data, self._logger = module, data, logger
        self._tensors: dict[str, Any] = data["tensors"]

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._data["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self._tensors[name]["mode"]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return TYPES[self._tensors[name]["dtype"]]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation[self._tensors[name]["location"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._tensors[name]["shape"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        ranges = self._data["profiles"][profile_index]
        shape = self._tensors[name]["shape"]
        low, high = (tuple(s if isinstance(s, int) else ranges[s][end] for s in shape) for end in (0, 1))
        return [low, high, high]

    def _scratch(self, profile: int) -> int:
        return self._data["scratch"] * (profile + 1)

    def _largest_scratch(self) -> int:
        return self._scratch(self.num_optimization_profiles - 1)

    def _context(self, strategy: Any = None) -> Any:
        context = self._module.context_class(self._module, self, self._logger)
        context.strategy = strategy
        self._module.made.append(context)
        return context


class Engine86(_Engine):
    device_memory_size = property(_Engine._largest_scratch)

    def create_execution_context_without_device_memory(self) -> Any:
        return self._context(ExecutionContextAllocationStrategy.USER_MANAGED)


class Engine11(_Engine):
    device_memory_size_v2 = property(_Engine._largest_scratch)

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return self._scratch(profile_index)

    def create_execution_context(self, strategy: Any = ExecutionContextAllocationStrategy.STATIC) -> Any:
        return self._context(strategy)


class Engine10(Engine11):
    @property
    def device_memory_size(self) -> int:
        warnings.warn("Superseded by get_device_memory_size_v2", DeprecationWarning, stacklevel=2)
        return self._largest_scratch()


class EngineRtx(Engine11):
    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, strategy: Any = ExecutionContextAllocationStrategy.STATIC) -> Any:
        if not isinstance(strategy, RuntimeConfig):
            return self._context(strategy)
        context = self._context(strategy.strategy)
        context.graphs = strategy.cuda_graph_strategy
        return context


class RuntimeConfig:
    def __init__(self) -> None:
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class _Context:
    def __init__(self, module: Any, engine: Any, logger: ILogger) -> None:
        self._module, self._engine, self._logger = module, engine, logger
        self._data = engine._data
        self.strategy: Any = None
        self.graphs = CudaGraphStrategy.DISABLED
        self.runs = 0  # how often it was asked to run, recordings included
        self.profile: int | None = None
        self.scratch: tuple[int, int] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._fresh = True  # shapes changed since the last run

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            raise RuntimeError("Error in set optimization profile async.")
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, self.profile)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return self._refuse(f"setInputShape: {name} {shape} is not in [{low}, {high}] of profile {self.profile}")
        self._fresh = self._fresh or self.shapes.get(name) != tuple(shape)
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        sizes: dict[str, int] = {}
        for known, shape in self.shapes.items():
            sizes |= dict(zip(map(str, self._engine._tensors[known]["shape"]), shape, strict=True))
        for symbol, (factor, of, *more) in self._data.get("gives", {}).items():
            sizes.setdefault(symbol, factor * sizes.get(of, 1) + sum(more))
        return tuple(s if isinstance(s, int) else sizes.get(s, -1) for s in self._engine._tensors[name]["shape"])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors:
            return self._refuse(f"setTensorAddress given invalid tensor name: {name}")
        if memory == 0 or memory % 256:
            return self._refuse(f"setTensorAddress: {memory:#x} for {name} is not aligned")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda: FakeCuda = self._module.cuda
        missing = [name for name in self._engine._tensors if name not in self._addresses]
        unset = [n for n in self._engine._tensors if self._engine.get_tensor_mode(n) == 1 and n not in self.shapes]
        if missing or unset or self.profile is None or self.scratch is None:
            return self._refuse(f"enqueueV3: not set: addresses {missing}, shapes {unset}, {self.profile}, scratch")
        assert self.strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        if cuda.is_capturing(stream_handle) and (self._fresh or self._module.refuses_capture):
            cuda.spoil(stream_handle)
            return self._refuse("enqueueV3: operation not permitted when stream is capturing")
        self._fresh = False
        self.runs += 1
        shapes = {name: self.get_tensor_shape(name) for name in self._engine._tensors}
        addresses, scratch = dict(self._addresses), self.scratch
        cuda.put(stream_handle, lambda: self._compute(shapes, addresses, scratch))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int], scratch: tuple[int, int]) -> None:
        """Read inputs, compute, write outputs; all memory must be there, as large as the shapes say."""
        self._module.cuda.device(*scratch)[:] = 0x5A
        inputs, outputs = {}, {}
        for name, tensor in self._engine._tensors.items():
            dtype = storage_dtype(tensor["dtype"])
            size = int(np.prod(shapes[name])) * dtype.itemsize
            memory = self._module.cuda.device(addresses[name], size)
            if tensor["mode"] == "INPUT":
                inputs[name] = np.frombuffer(memory.tobytes(), dtype).reshape(shapes[name])
            else:
                outputs[name] = (memory, dtype)
        results = run_graph(self._data["run"], inputs)
        for name, (memory, dtype) in outputs.items():
            result = results[name].astype(dtype)
            assert result.shape == shapes[name], f"{name}: {result.shape}, TensorRT said {shapes[name]}"
            memory[:] = np.frombuffer(result.tobytes(), np.uint8)

    def _refuse(self, text: str) -> bool:
        self._logger.log(1, f"IExecutionContext::{text}")
        return False


class Context86(_Context):
    def _set_scratch(self, memory: int) -> None:
        assert self.profile is None
        self.scratch = (memory, self._engine._largest_scratch())

    device_memory = property(None, _set_scratch)


class Context11(_Context):
    def set_device_memory(self, memory: int, size: int) -> None:
        self.scratch = (memory, size)


class Context10(Context11):
    device_memory = property(None, lambda self, memory: setattr(self, "scratch", (memory, 0)))


def run_graph(what: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of an ONNX file or of a function."""
    if what.startswith("function:"):
        return FUNCTIONS[what.removeprefix("function:")](inputs)
    session = _session(what)
    wanted = {tensor.name: tensor.type for tensor in session.get_inputs()}
    feeds = {
        name: array.astype(np.int64) if wanted[name] == "tensor(int64)" else array for name, array in inputs.items()
    }
    names = [tensor.name for tensor in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@cache
def _session(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    assert Path(path).is_file()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
