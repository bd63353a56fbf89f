"""The onnxruntime engine, on the CPU or on an NVIDIA GPU.

Its arrays are the host's in both cases. On the CPU they are bound as they are. On the GPU onnxruntime copies inputs
there before each run and outputs back after it: simple, and good enough to check a GPU with; TensorRT's engines keep
their arrays on the device.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from stts_runtime.bundle.check import check_graph
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.engine import Arrays
from stts_runtime.engine.binding import Binding
from stts_runtime.engine.cores import allowed_cores
from stts_runtime.engine.memory import HostMemory
from stts_runtime.engine.packed import PART, find_packed, packed_options
from stts_runtime.engine.whole_products import keep_products_whole
from stts_runtime.errors import EngineError, UsageError


PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Device of the bundle -> onnxruntime's name of what runs there."""

# TF32 is on by default: float32 parts would lose 13 bits of each factor.
OPTIONS = {"CUDAExecutionProvider": ("CUDAExecutionProvider", {"use_tf32": "0"})}
"""Provider -> the same with the options it gets."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int8)": "int8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
"""Onnxruntime's name of a type -> a spec's."""


class OnnxruntimeEngine:
    """A graph in an onnxruntime session; inputs and outputs are bound to the caller's arrays."""

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        *,
        prepack: bool,
        device: str = "cpu",
        threads: int | None = None,
        packed: bool = False,
    ) -> None:
        """Load the graph.

        Args:
            path: the ONNX file; its weights lie beside it as external data.
            spec: the graph's contract.
            prepack: repack weights for faster products on the CPU, which copies them; without it they stay
                memory-mapped.
            device: `cpu` or `cuda`.
            threads: of one operator; default STTS_THREADS from the environment, else one a core that may be used.
            packed: the graph is one that `pack` wrote.

        Raises:
            BundleError: the graph takes or gives something else than its spec says.
            EngineError: onnxruntime is missing, refuses the graph, or cannot run on the device.
        """
        try:
            import onnxruntime
        except ImportError as error:
            package = "onnxruntime-gpu" if device == "cuda" else "onnxruntime"
            raise EngineError(f"onnxruntime cannot be imported ({error}): pip install {package}") from error
        provider = provider_of(device, onnxruntime.get_available_providers())
        if device == "cuda":
            # It prints what it does not find, and so does the session, whose error we show.
            with contextlib.redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls()  # CUDA's libraries from their wheels, where pip put them
        options, chosen = session_options(prepack, threads), [OPTIONS.get(provider, provider)]
        if packed:
            options = packed_options(options)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        except Exception as error:
            raise EngineError(f"onnxruntime refuses {path.name}: {error}") from error
        check_provider(provider, self._session.get_providers())
        check_graph(spec, _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs()))
        self._spec = spec
        self._bindings: list[Binding] = []  # that no run uses just now; onnxruntime's runs may lie side by side
        self._keeps_bindings = device == "cpu"
        self._freeing = onnxruntime.RunOptions()
        if device == "cpu":
            self._freeing.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.memory = HostMemory()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once, see `Engine.run`."""
        if self._session is None:
            raise EngineError(f"graph {self._spec.name!r} was closed: its session has ended, load the bundle again")
        try:
            binding = self._bindings.pop()
        except IndexError:
            binding = Binding(self._session, self._spec)
        run_bound(self._session, self._spec, binding, inputs, outputs, self._freeing)
        if self._keeps_bindings:
            self._bindings.append(binding)  # not where it failed, perhaps half bound

    def close(self) -> None:
        """Release the session."""
        self._bindings.clear()
        self._session = None


def open_onnxruntime_engine(bundle: Bundle, part: str) -> OnnxruntimeEngine:
    """Return the engine of a part, see `open_engine`."""
    graph, settings = bundle.manifest.graphs[part], bundle.manifest.engine
    packed = find_packed(bundle)[0] if part == PART else None
    return OnnxruntimeEngine(
        packed or bundle.file(graph.file),
        graph.spec,
        prepack=settings.prepack,
        device=settings.device,
        packed=packed is not None,
    )


def session_options(prepack: bool, threads: int | None = None) -> Any:
    """Return the settings of every session, whoever opens it; arguments are those of `OnnxruntimeEngine`.

    Raises:
        UsageError: STTS_THREADS is no number of threads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is in our error already; a second text on stderr helps nobody
    options.intra_op_num_threads = threads_from_environment() if threads is None else threads
    options.enable_mem_pattern = False  # it plans memory for one shape, and shapes change with every clip
    keep_products_whole(options)
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def run_session(session: Any, spec: GraphSpec, inputs: Arrays, outputs: Arrays) -> None:
    """Run a session once whose inputs and outputs are those of `spec`, or more, see `Engine.run`."""
    run_bound(session, spec, Binding(session, spec), inputs, outputs)


def run_bound(
    session: Any, spec: GraphSpec, binding: Binding, inputs: Arrays, outputs: Arrays, freeing: Any = None
) -> None:
    """Run a session with its `binding`, see `Engine.run`.

    Onnxruntime keeps the memory of its largest run. With the run options `freeing` all runs give it back but decode
    steps, which would feel it.
    """
    sizes = binding.bind(inputs, outputs)
    try:
        session.run_with_iobinding(binding.handle, None if spec.is_step(sizes) else freeing)
    except Exception as error:
        raise EngineError(f"graph {spec.name!r} failed: {error}") from error


def provider_of(device: str, available: list[str]) -> str:
    """Return onnxruntime's name of what runs on `device`.

    Raises:
        EngineError: no such device, or the installed onnxruntime was built without it.
    """
    if device not in PROVIDERS:
        raise EngineError(
            f"the bundle wants onnxruntime on {device!r}, which this runtime cannot do (it can: "
            f"{', '.join(PROVIDERS)}); upgrade stts-runtime, or build the bundle again with --target cpu"
        )
    if PROVIDERS[device] not in available:
        raise EngineError(
            f"the bundle wants onnxruntime on {device!r}, but the one installed was built without it (it has: "
            f"{', '.join(available)}): pip uninstall onnxruntime, then pip install onnxruntime-gpu; or build the "
            "bundle again with --target cpu"
        )
    return PROVIDERS[device]


def check_provider(wanted: str, got: list[str]) -> None:
    """Raise EngineError if a session fell back from the `wanted` provider to the CPU, which it does without a word."""
    if wanted not in got:
        raise EngineError(
            f"onnxruntime has {wanted} but could not start it, and would run on the CPU in its place: it wants an "
            "NVIDIA GPU with a driver for the CUDA it was built for, and CUDA's and cuDNN's libraries: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'; or build the bundle again with --target cpu"
        )


def threads_from_environment() -> int:
    """Return what STTS_THREADS says, without it one a core that this process may use: 0, a physical one, if it may all.

    Raises:
        UsageError: it is no number of threads, or far more than this machine has a use for: all are started at once.
    """
    text = os.environ.get("STTS_THREADS", "") or str(allowed_cores() or 0)
    most = max(64, 4 * (os.cpu_count() or 1))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= most):
        raise UsageError(
            f"STTS_THREADS is {text[:40]!r}, wanted a number of threads up to {most}, or 0 for one a physical core"
        )
    return int(text)


def _tensors(arguments: list[Any]) -> dict[str, tuple[str, tuple[int | str | None, ...]]]:
    """Return dtype and shape of a session's inputs or outputs by name, as `check_graph` takes them."""
    return {one.name: (_DTYPES.get(one.type, one.type), tuple(one.shape)) for one in arguments}
