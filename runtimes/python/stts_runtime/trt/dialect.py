"""Every difference between TensorRT 8.6, 10, 11 and TensorRT-RTX: small functions, each with its reason.

| | 8.6 | 10.x | 11.x | RTX 1.x |
|---|---|---|---|---|
| types | flags and hints | strong, if asked for | strong | strong |
| bfloat16, int64 | no; int64 bindings become int32 | yes | yes | yes |
| tactic sources | cuBLAS and cuDNN on | cuBLASLt on | none of these | none of these |
| progress monitor | no | yes | yes | yes |
| timing cache | yes | yes | yes | no-op, nothing is timed |
| target | the device | the device | the device | any list of SMs |
| parser errors | node number | number, name, operator | as 10 | as 10 |
| plugins (IPluginV3) | no | yes | yes | yes |
| weights in few bits | no | yes; NVFP4 from 10.8 | yes | yes |

What each version has was read from 8.6.0's and RTX 1.7.1's own modules, and from NVIDIA's API reference for 10 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import Bindings


NETWORK_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's name of a dtype -> a TensorSpec's."""

_COMPUTES = (
    "ACTIVATION",
    "CUMULATIVE",
    "EINSUM",
    "ELEMENTWISE",
    "MATRIX_MULTIPLY",
    "NORMALIZATION",
    "POOLING",
    "REDUCE",
    "SCALE",
    "SOFTMAX",
    "UNARY",
)
"""Kinds of layers that compute, where a lower precision changes the result; all others move data about."""


OLDEST_WITH_PLUGINS = (10, 0)
"""The first version that loads plugins of the kind that ours are, IPluginV3."""
LEAST_FOR_WEIGHTS = {"int8": ((10, 0), 0), "int4": ((10, 0), 0), "fp8": ((10, 0), 89), "nvfp4": ((10, 8), 100)}
"""What a bundle's rounded weights are -> the first version that reads our graphs with them, and the first SM."""
OLDEST_WITH_WHOLE_CACHE = (10, 0)
"""The first version that takes keys and values in 8 bits as they are. 8.6 wants a range told for each such tensor."""


# building


def is_strongly_typed(bindings: Bindings) -> bool:
    """Return whether engines compute in exactly the types that the graph says: from 10.0, and the only kind from 11."""
    return bindings.is_rtx or bindings.release >= (10, 0)


def create_network(bindings: Bindings, builder: Any) -> Any:
    """Return an empty network that takes ONNX graphs.

    8.6 must be told that the batch is an ordinary dimension; 10 must be told to keep to the graph's types; 11 does both
    by itself and warns of either flag.
    """
    flags = bindings.module.NetworkDefinitionCreationFlag
    if not is_strongly_typed(bindings):
        return builder.create_network(1 << int(flags.EXPLICIT_BATCH))
    if bindings.is_rtx or bindings.release < (11, 0):
        return builder.create_network(1 << int(flags.STRONGLY_TYPED))
    return builder.create_network(0)


def check_plugins(bindings: Bindings) -> None:
    """Raise EngineError if this version cannot load our plugins."""
    if not bindings.is_rtx and bindings.release < OLDEST_WITH_PLUGINS:
        raise EngineError(
            f"{bindings.title} cannot load this bundle's plugins, which came with TensorRT 10: build the bundle with "
            "--ops portable, or install a newer TensorRT"
        )


def check_precision(bindings: Bindings, precision: str, compute_capabilities: Sequence[int]) -> None:
    """Raise if engines of this version or SM cannot compute in `precision`.

    Raises:
        EngineError: bfloat16 on TensorRT before 10, or on an SM before 80.
    """
    if precision != "bfloat16":
        return
    if not is_strongly_typed(bindings):
        raise EngineError(f"{bindings.title} has no bfloat16 (10.0 and up has): build the bundle with float16")
    old = [number for number in compute_capabilities if number < 80]
    if old:
        raise EngineError(f"SM {old[0]} has no bfloat16 (80 and up has): build the bundle with float16")


def check_weights(bindings: Bindings, weights: str, compute_capabilities: Sequence[int]) -> None:
    """Raise if engines of this version or SM cannot read weights that are rounded so.

    Raises:
        EngineError: any on TensorRT 8.6, whose opset 17 has no scales in half precision; small floats on an older GPU.
    """
    if weights not in LEAST_FOR_WEIGHTS:
        return
    release, sm = LEAST_FOR_WEIGHTS[weights]
    if not bindings.is_rtx and bindings.release < release:
        raise EngineError(
            f"{bindings.title} cannot read weights in {weights} ({'.'.join(map(str, release))} and up can): build the "
            "bundle with --weights float, or install a newer TensorRT"
        )
    old = [number for number in compute_capabilities if number < sm]
    if old:
        raise EngineError(
            f"SM {old[0]} has no {weights} ({sm} and up has): build the bundle with --weights int4 or int8"
        )


def check_kv_cache(bindings: Bindings, kv_cache: str) -> None:
    """Raise EngineError if this version cannot take keys and values that are kept so."""
    if kv_cache != FLOAT and not bindings.is_rtx and bindings.release < OLDEST_WITH_WHOLE_CACHE:
        raise EngineError(
            f"{bindings.title} cannot take keys and values in {kv_cache} (10.0 and up can): build the bundle with "
            "--kv-cache float, or install a newer TensorRT"
        )


def set_precision(bindings: Bindings, network: Any, config: Any, precision: str) -> None:
    """Have the engine compute each layer in the graph's type.

    A strongly typed network does so by itself. On 8.6 the FP16 flag only allows half precision, everywhere: layers that
    the graph computes in float32 (norms, softmax, scorer, logits) are held to it one by one. Naive FP16 ruins SigLIP.

    Raises:
        EngineError: the graph has no value in half precision, so that the bundle's precision is not the graph's.
    """
    if is_strongly_typed(bindings) or precision == "float32":
        return
    module = bindings.module
    config.set_flag(module.BuilderFlag.FP16)
    config.set_flag(module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    half = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtypes = [layer.get_output(i).dtype for i in range(layer.num_outputs)]
        half += module.DataType.HALF in dtypes
        if layer.type.name in _COMPUTES and all(dtype == module.DataType.FLOAT for dtype in dtypes):
            layer.precision = module.DataType.FLOAT
            for i in range(layer.num_outputs):
                layer.set_output_type(i, module.DataType.FLOAT)
    if not half:
        raise EngineError(f"the bundle says {precision} and no layer of the graph computes in it: build it again")


def configure(bindings: Bindings, config: Any, workspace: int | None, inspect: bool) -> None:
    """Set what does not depend on the graph.

    Args:
        bindings: the version.
        config: an `IBuilderConfig`.
        workspace: most bytes of scratch memory a layer may ask for; None leaves it to TensorRT (all there is).
        inspect: whether the log shall name each layer's kernels.
    """
    module = bindings.module
    config.clear_flag(module.BuilderFlag.TF32)  # on by default: float32 parts would lose 13 bits of each factor
    if workspace is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, workspace)
    if inspect:
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if not bindings.is_rtx and bindings.release < (11, 0):
        # cuBLAS and cuDNN take hundreds of MB at run time, need not be installed, and 11 has dropped them
        sources = module.TacticSource
        config.set_tactic_sources(1 << int(sources.JIT_CONVOLUTIONS) | 1 << int(sources.EDGE_MASK_CONVOLUTIONS))


def set_compute_capabilities(bindings: Bindings, config: Any, compute_capabilities: Sequence[int]) -> None:
    """Say for which SMs the engine is; TensorRT builds for the device it runs on, RTX for any it knows.

    Raises:
        EngineError: RTX does not know one of them.
    """
    if not bindings.is_rtx:
        return
    known = rtx_compute_capabilities(bindings)
    unknown = [str(number) for number in compute_capabilities if number not in known]
    if unknown:
        names = ", ".join(map(str, sorted(known)))
        raise EngineError(f"{bindings.title} builds for SM {names}, not for {', '.join(unknown)}")
    config.num_compute_capabilities = len(compute_capabilities)
    for index, number in enumerate(compute_capabilities):
        if not config.set_compute_capability(known[number], index):
            raise EngineError(f"{bindings.title} refuses SM {number}")


def rtx_compute_capabilities(bindings: Bindings) -> dict[int, Any]:
    """Return the SMs that TensorRT-RTX builds for, with its own values."""
    members = bindings.module.ComputeCapability.__members__
    return {int(name[2:]): value for name, value in members.items() if name[:2] == "SM" and name[2:].isdecimal()}


def network_dtype(bindings: Bindings, dtype: str) -> str:
    """Return the dtype that a binding has whose TensorSpec says `dtype`: TensorRT before 10 has int32 for int64."""
    return "int32" if dtype == "int64" and not is_strongly_typed(bindings) else dtype


def has_progress(bindings: Bindings) -> bool:
    """Return whether builds report how far they are: not before 10.0."""
    return hasattr(bindings.module, "IProgressMonitor")


def has_timing_cache(bindings: Bindings) -> bool:
    """Return whether timings are worth keeping: RTX times nothing while it builds, and warns of the calls."""
    return not bindings.is_rtx


def attach_timing_cache(config: Any, content: bytes) -> tuple[Any, bool]:
    """Attach a timing cache and return it, and whether `content` was taken; if not, or if it is empty, an empty one.

    8.6 returns None for bytes it cannot read; later versions warn and return an empty cache. A cache of another device
    is refused when it is attached.
    """
    cache = config.create_timing_cache(content)
    if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
        return cache, True
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache, False


def parser_error_node(error: Any) -> tuple[int, str, str]:
    """Return number (-1 for none), name and operator of the node a parser error is about; 8.6 knows the number only."""
    number = int(error.node())
    if not hasattr(error, "node_operator"):
        return number, "", ""
    return number, str(error.node_name()), str(error.node_operator())


def newest_opset(bindings: Bindings) -> int | None:
    """Return the newest opset that the parser was made for, where it is one that our graphs may be too new for."""
    return 17 if not is_strongly_typed(bindings) else None


# running


def create_context(bindings: Bindings, engine: Any, captures: bool) -> tuple[Any, Any]:
    """Return an execution context that owns no scratch memory (None on failure), and what must live as long as it.

    10.0 named the strategy, 8.6 has a call of its own for it, which 11 has no more. `captures` lets TensorRT-RTX record
    and replay CUDA graphs, see `replays_graphs_itself`.
    """
    if not is_strongly_typed(bindings):
        return engine.create_execution_context_without_device_memory(), None
    unowned = bindings.module.ExecutionContextAllocationStrategy.USER_MANAGED
    if not (captures and replays_graphs_itself(bindings)):
        return engine.create_execution_context(unowned), None
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(unowned)
    config.cuda_graph_strategy = bindings.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config), config


def context_memory_size(engine: Any, profile: int) -> int:
    """Return the bytes of scratch memory that a context of one profile needs.

    Asked for here and not by version: the v2 calls came in the course of 10 (10.1), and the others left with 11.
    Without them the largest need of all profiles is known.
    """
    if hasattr(engine, "get_device_memory_size_for_profile_v2"):
        return int(engine.get_device_memory_size_for_profile_v2(profile))
    return int(engine.device_memory_size)


def set_context_memory(context: Any, pointer: int, size: int) -> None:
    """Give a context its scratch memory; with its size where that can be said, see `context_memory_size`."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(pointer, size)
    else:
        context.device_memory = pointer


def replays_graphs_itself(bindings: Bindings) -> bool:
    """Return whether engines can be told to record and replay CUDA graphs: TensorRT-RTX from 1.2.

    It compiles kernels for a shape while slower ones run, and only it knows when to record: a graph of ours could keep
    the slower ones for good.
    """
    return bindings.is_rtx and bindings.release >= (1, 2)


def can_be_captured(bindings: Bindings) -> bool:
    """Return whether runs may be recorded into a CUDA graph of ours: in any TensorRT, not in RTX (see above)."""
    return not bindings.is_rtx
