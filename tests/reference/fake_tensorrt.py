"""A `tensorrt` module of a given version: the attributes that version has and no others, and no GPU.

8.6.0's were read from its wheel; 10's and 11's from NVIDIA's API reference. Only what building needs is there. Parsing
reads the ONNX file (types and operators), and a built "engine" is JSON of all that was set, for tests to read.

The environment steers a fake in another process: FAKE_TENSORRT_SECONDS (a build takes), FAKE_TENSORRT_DIES (a signal's
number, while `FAKE_TENSORRT_PART` is built), FAKE_TENSORRT_LOG (file to which each build adds its part's name).
"""

from __future__ import annotations

import enum
import json
import os
import re
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import onnx


_FLAGS = {
    8: "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE",
    10: "FP16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO VERSION_COMPATIBLE BF16 STRIP_PLAN",
    11: "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE VERSION_COMPATIBLE STRIP_PLAN",
}
_TYPES = {
    8: "FLOAT HALF INT8 INT32 BOOL UINT8 FP8",
    10: "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64",
    11: "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64",
}
_CREATION = {8: "EXPLICIT_BATCH EXPLICIT_PRECISION", 10: "EXPLICIT_BATCH STRONGLY_TYPED", 11: "STRONGLY_TYPED"}
_TACTICS = {
    8: "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    10: "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    11: "EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
}
_LAYERS = {
    "LayerNormalization": "NORMALIZATION",
    "Softmax": "SOFTMAX",
    "ReduceMean": "REDUCE",
    "ReduceSum": "REDUCE",
    "ReduceMax": "REDUCE",
    "MatMul": "MATRIX_MULTIPLY",
    "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE",
    "Pow": "ELEMENTWISE",
    "Sqrt": "UNARY",
    "Exp": "UNARY",
    "Gelu": "ACTIVATION",
    "Cast": "CAST",
    "Identity": "IDENTITY",
    "Transpose": "SHUFFLE",
    "Unsqueeze": "SHUFFLE",
    "Gather": "GATHER",
    "Concat": "CONCATENATION",
    "Where": "SELECT",
}
_DTYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}
_SINCE = {"Gelu": 20, "NonZero": 9}  # standard operators of later opsets than 8.6 reads


def fake_tensorrt(version: str, module: types.ModuleType | None = None) -> Any:
    """Return a module that is TensorRT of `version`, 8.6.x, 10.x or 11.x; `module` is filled, if given."""
    major = int(version.partition(".")[0])
    trt: Any = module or types.ModuleType("tensorrt")
    trt.__version__ = version

    def enumeration(name: str, members: str) -> Any:
        values = {member: index for index, member in enumerate(members.split())}
        created = enum.IntEnum(name, values)
        setattr(trt, name, created)
        return created

    data_type = enumeration("DataType", _TYPES[major])
    flags = enumeration("BuilderFlag", _FLAGS[major])
    creation = enumeration("NetworkDefinitionCreationFlag", _CREATION[major])
    enumeration("TacticSource", _TACTICS[major])
    enumeration("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM TACTIC_DRAM")
    enumeration("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
    layer_type = enumeration("LayerType", " ".join(sorted({*_LAYERS.values(), "PLUGIN_V3"})))
    severity = enumeration("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    class ILogger:
        Severity = severity

    class ITensor:
        is_shape_tensor = False

        def __init__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
            self.name, self.dtype, self.shape = name, dtype, shape

    class ILayer:
        def __init__(self, name: str, kind: Any, outputs: list[Any]) -> None:
            self.name, self.type, self._outputs = name, kind, outputs
            self.num_outputs = len(outputs)
            self.constraints: dict[str, Any] = {}

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

        if major < 11:

            @property
            def precision(self) -> Any:
                return self.constraints.get("precision")

            @precision.setter
            def precision(self, dtype: Any) -> None:
                self.constraints["precision"] = dtype

            def set_output_type(self, index: int, dtype: Any) -> None:
                self.constraints[f"output {index}"] = dtype

    class INetworkDefinition:
        def __init__(self, creation_flags: int) -> None:
            self.creation_flags = creation_flags
            self.inputs: list[Any] = []
            self.outputs: list[Any] = []
            self.layers: list[Any] = []

        num_inputs = property(lambda self: len(self.inputs))
        num_outputs = property(lambda self: len(self.outputs))
        num_layers = property(lambda self: len(self.layers))

        def get_input(self, index: int) -> Any:
            return self.inputs[index]

        def get_output(self, index: int) -> Any:
            return self.outputs[index]

        def get_layer(self, index: int) -> Any:
            return self.layers[index]

    class ParserError:
        def __init__(self, node: int, name: str, operator: str) -> None:
            self._node, self._name, self._operator = node, name, operator

        def node(self) -> int:
            return self._node

        def desc(self) -> str:
            return f"no importer registered for op: {self._operator}"

        if major >= 10:

            def node_name(self) -> str:
                return self._name

            def node_operator(self) -> str:
                return self._operator

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._logger = network, logger
            self._errors: list[Any] = []

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def parse_from_file(self, model: str) -> bool:
            graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
            plugins = {creator.name for creator in trt.get_plugin_registry().all_creators} if major >= 10 else set()
            for index, node in enumerate(graph.node):
                if node.op_type in plugins:
                    continue
                if node.op_type not in _LAYERS or (major < 10 and node.op_type in _SINCE):
                    self._logger.log(severity.ERROR, f"[E] node {index}: no importer for {node.op_type}")
                    self._errors.append(ParserError(index, node.name, node.op_type))
                    return False
            known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
            skip = {tensor.name for tensor in graph.initializer}

            def tensor(name: str) -> Any:
                described = known[name].type.tensor_type
                dtype = _DTYPES[described.elem_type]
                if major < 10 and dtype == "INT64":
                    dtype = "INT32"
                sizes = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in described.shape.dim)
                return ITensor(name, data_type[dtype], sizes)

            self._network.inputs = [tensor(value.name) for value in graph.input if value.name not in skip]
            self._network.outputs = [tensor(value.name) for value in graph.output]
            self._network.layers = [
                ILayer(node.name, layer_type[_LAYERS.get(node.op_type, "PLUGIN_V3")], [tensor(n) for n in node.output])
                for node in graph.node
            ]
            return True

    class IPluginRegistry:
        """What it loads is a file that holds the names of plugins, among anything else."""

        def __init__(self) -> None:
            self.all_creators: list[Any] = []
            self.loaded: list[str] = []

        def load_library(self, plugin_path: str) -> None:
            self.loaded.append(plugin_path)
            found = re.findall(rb"Stts\w+", Path(plugin_path).read_bytes())
            self.all_creators += [types.SimpleNamespace(name=name.decode()) for name in found]

    class IOptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
            self.shapes[name] = [list(least), list(best), list(most)]

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return self.content

    class IBuilderConfig:
        def __init__(self) -> None:
            self.flags_set = {flags.TF32}
            self.profiles: list[Any] = []
            self.pools: dict[Any, int] = {}
            self.tactic_sources: int | None = None
            self.cache: Any = None
            self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
            if major >= 10:
                self.progress_monitor = None

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "progress_monitor" and major < 10:
                raise AttributeError(name)
            object.__setattr__(self, name, value)

        def set_flag(self, flag: Any) -> None:
            self.flags_set.add(flags(flag))

        def get_flag(self, flag: Any) -> bool:
            return flags(flag) in self.flags_set

        def clear_flag(self, flag: Any) -> None:
            self.flags_set.discard(flags(flag))

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self.pools[pool] = pool_size

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            self.tactic_sources = tactic_sources
            return True

        def add_optimization_profile(self, profile: Any) -> int:
            self.profiles.append(profile.shapes)
            return len(self.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            if not serialized_timing_cache or serialized_timing_cache.startswith(b"timed"):
                return ITimingCache(serialized_timing_cache or b"timed")
            return None if major < 10 else ITimingCache(b"timed")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if b"other device" in cache.content and not ignore_mismatch:
                return False
            self.cache = cache
            return True

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int = 0) -> Any:
            if flags >> len(creation):
                raise ValueError(f"no such flags: {flags}")
            return INetworkDefinition(flags)

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            self.logger.log(severity.INFO, "Total Activation Memory: 4096 bytes")
            part = network.outputs[0].name
            _obey_environment(part)
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None:
                monitor.phase_start("Building engine", None, 2)
                monitor.step_complete("Building engine", 0)
                monitor.phase_finish("Building engine")
            if config.cache is not None:
                config.cache.content += f" {part}".encode()
            said = {
                "creation_flags": network.creation_flags,
                "flags": sorted(flag.name for flag in config.flags_set),
                "tactic_sources": config.tactic_sources,
                "workspace": config.pools.get(trt.MemoryPoolType.WORKSPACE),
                "profiles": config.profiles,
                "constraints": {
                    layer.name: {key: value.name for key, value in layer.constraints.items()}
                    for layer in network.layers
                    if layer.constraints
                },
            }
            return json.dumps(said).encode()

    for created in (ILogger, OnnxParser, Builder, ParserError):
        setattr(trt, created.__name__, created)
    if major >= 10:
        registry = IPluginRegistry()
        trt.get_plugin_registry = lambda: registry
        trt.IProgressMonitor = type("IProgressMonitor", (), {})
    return trt


def install_fake_tensorrt(folder: Path, version: str) -> Path:
    """Write a package `tensorrt` of this version into `folder`, which is what PYTHONPATH takes, and return it."""
    tests = Path(__file__).parents[1]
    (folder / "tensorrt").mkdir(parents=True)
    (folder / "tensorrt" / "__init__.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tests)!r})\n"
        "from reference.fake_tensorrt import fake_tensorrt\n"
        f"fake_tensorrt({version!r}, sys.modules[__name__])\n"
    )
    return folder


def _obey_environment(part: str) -> None:
    log = os.environ.get("FAKE_TENSORRT_LOG")
    if log:
        with Path(log).open("a") as stream:
            stream.write(f"{part} {os.getpid()}\n")
    if os.environ.get("FAKE_TENSORRT_PART", part) != part:
        return
    time.sleep(float(os.environ.get("FAKE_TENSORRT_SECONDS", "0")))
    dies = int(os.environ.get("FAKE_TENSORRT_DIES", "0"))
    if dies:
        sys.stderr.write("a last word")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.Signals(dies))
