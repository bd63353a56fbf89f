"""Build one engine in this process, and tell the parent how it goes; `engine_file` starts it and listens.

What is told are lines of JSON: {"phase", "share"}, {"note"}, and at the end {"built"} or {"error"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from stts_runtime.bundle.engine_set import sm_text
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.swap import sync
from stts_runtime.errors import EngineError, SttsError
from stts_runtime.trt import dialect
from stts_runtime.trt.bindings import Bindings, import_bindings
from stts_runtime.trt.engine_file import peak_memory
from stts_runtime.trt.inspection import Inspection, check_engine, inspection_of
from stts_runtime.trt.messages import Messages, collecting_logger
from stts_runtime.trt.onnx_file import read_onnx_file
from stts_runtime.trt.parse import parse
from stts_runtime.trt.plugins import register_plugins
from stts_runtime.trt.profiles import add_profiles, profiles_of
from stts_runtime.trt.progress import progress_monitor
from stts_runtime.trt.records import BuiltEngine, EngineRequest
from stts_runtime.trt.timing_cache import read_timing_cache, set_aside, timing_cache_file, write_timing_cache


_PARENT_DIED = 1  # PR_SET_PDEATHSIG
_OOM_SCORE = "500"  # of -1000 to 1000

Tell = Callable[..., None]


def main(descriptor: int, parent: int) -> int:
    """Build what the JSON on standard input asks for and return the exit code: 1 where an error was told.

    Args:
        descriptor: of the pipe to tell.
        parent: process id of who started us; without it nobody wants the engine.
    """
    _end_with(parent)
    with os.fdopen(descriptor, "w") as pipe:
        tell = _teller(pipe)
        try:
            request = from_plain(EngineRequest, json.loads(sys.stdin.readline()), "request", EngineError)
            tell(built=to_plain(build(request, tell)))
            return 0
        except SttsError as error:
            message = str(error)
        except MemoryError:
            message = "out of memory"
        except OSError as error:
            message = f"{error.filename or 'the system'}: {error.strerror or error}"
        tell(error=message)
        return 1


def build(request: EngineRequest, tell: Tell) -> BuiltEngine:
    """Build and write the engine.

    Raises:
        EngineError: TensorRT refuses the graph, or fails to build it.
        OSError: the engine cannot be written.
    """
    start = time.monotonic()
    bindings = import_bindings(request.backend)
    dialect.check_precision(bindings, request.precision, request.compute_capabilities)
    messages = Messages()
    tell(phase="parse", share=0.0)
    plan, inspection = _plan(bindings, request, messages, tell)
    tell(phase="write", share=1.0)
    output = Path(request.output)
    output.write_bytes(plan)
    sync(output)
    return BuiltEngine(
        size=len(plan),
        sha256=hashlib.sha256(plan).hexdigest(),
        seconds=round(time.monotonic() - start, 1),
        processor_seconds=round(time.process_time(), 1),
        parameter_bytes=read_onnx_file(Path(request.graph)).parameter_bytes,
        peak_memory_bytes=peak_memory("self"),
        inspection=inspection,
        **messages.figures(),
    )


def _plan(
    bindings: Bindings, request: EngineRequest, messages: Messages, tell: Tell
) -> tuple[memoryview, Inspection | None]:
    """Return the engine's bytes, and what the log says of it."""
    module = bindings.module
    logger = collecting_logger(module, messages, verbose=request.inspect)
    try:
        builder = module.Builder(logger)
    except Exception as error:  # 8.6 and 10 need a GPU here; pybind says no more than that it got nothing
        raise EngineError(f"{bindings.title} cannot start a build: {messages.explanation()}") from error
    if request.library is not None:
        register_plugins(bindings, Path(request.library), messages)
    network = dialect.create_network(bindings, builder)
    config = builder.create_builder_config()
    dialect.set_compute_capabilities(bindings, config, request.compute_capabilities)
    dialect.configure(bindings, config, request.workspace, request.inspect)
    parser = parse(bindings, network, logger, messages, Path(request.graph), request.spec)
    add_profiles(builder, config, request.spec)
    dialect.set_precision(bindings, network, config, request.precision)
    monitor = None
    if dialect.has_progress(bindings):
        monitor = progress_monitor(module, lambda phase, share: tell(phase=phase, share=share))
        config.progress_monitor = monitor
    with _timing_cache(bindings, request, config, tell):
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        sms = sm_text(request.compute_capabilities)
        raise EngineError(f"{bindings.title} cannot build it for {sms}: {messages.explanation()}")
    del monitor, parser  # which had to live until here
    if not request.inspect:
        return memoryview(plan), None
    inspection = inspection_of(messages.layers(), messages.activations())
    check_engine(inspection, request.spec, profiles_of(request.spec))
    return memoryview(plan), inspection


@contextlib.contextmanager
def _timing_cache(bindings: Bindings, request: EngineRequest, config: Any, tell: Tell) -> Any:
    """Attach the timing cache of this version and SM, and store what was added to it."""
    if not dialect.has_timing_cache(bindings):
        yield
        return
    file = timing_cache_file(bindings, request.compute_capabilities)
    content, note = read_timing_cache(file, bindings, request.compute_capabilities)
    cache, taken = dialect.attach_timing_cache(config, content)
    if not taken and content:
        note = set_aside(file, f"{bindings.title} does not take it for this device")
    if note:
        tell(note=note)
    yield
    note = write_timing_cache(file, bindings, request.compute_capabilities, bytes(cache.serialize()))
    if note:
        tell(note=note)


def _teller(pipe: TextIO) -> Tell:
    """Return a function that tells the parent; a phase that has not moved by a thousandth is not told again."""
    last: tuple[str, float] = ("", -1.0)

    def tell(**what: Any) -> None:
        nonlocal last
        if "phase" in what:
            if what["phase"] == last[0] and what["share"] - last[1] < 0.001:
                return
            last = (what["phase"], what["share"])
        pipe.write(json.dumps(what) + "\n")
        pipe.flush()

    return tell


def _end_with(parent: int) -> None:
    """Have the kernel kill us when our parent dies, and before all others when memory runs out; Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if os.getppid() != parent:  # it died before it could be told to the kernel
        raise SystemExit(1)
