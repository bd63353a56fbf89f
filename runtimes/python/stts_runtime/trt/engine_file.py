"""Build one engine in a process of its own.

A failed try spoils TensorRT-RTX for the next one, and a build that the kernel kills for its memory must not take the
caller along.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import EngineError
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.sizes import size_text
from stts_runtime.trt.plugins import environment_for_plugins
from stts_runtime.trt.records import BuiltEngine, EngineRequest


__all__ = ["BuiltEngine", "EngineRequest", "build_engine"]

_CHILD = "import sys; from stts_runtime.trt.child import main; sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))"
_LOOK_SECONDS = 0.5
_TAIL_CHARACTERS = 600


def build_engine(request: EngineRequest, on_progress: OnProgress = no_progress, log: Log = no_log) -> BuiltEngine:
    """Build the engine, and return what it is once its file is whole; without success there is no file.

    Args:
        request: what to build.
        on_progress: told what TensorRT does, and the share that is done (0 throughout on 8.6, which does not say).
        log: told what a person should know and no code needs, for instance of a timing cache that was set aside.

    Raises:
        EngineError: TensorRT is missing, refuses the graph or fails, or the process was killed (says by what).
    """
    output = Path(request.output)
    partial = output.with_name(f"{output.name}.partial")
    try:
        built = _run(replace(request, output=str(partial)), on_progress, log)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return built


def _run(request: EngineRequest, on_progress: OnProgress, log: Log) -> BuiltEngine:
    """Run the child to its end."""
    reading, writing = os.pipe()
    has_plugins = request.library is not None
    surroundings = environment_for_plugins(request.backend) if has_plugins else contextlib.nullcontext(None)
    with tempfile.TemporaryFile() as said, os.fdopen(reading, "rb") as pipe, surroundings as environment:
        try:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(writing), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                env=environment,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        finally:
            os.close(writing)
        built, error, memory = None, "", 0
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin:  # if it is dead, we hear of it below
                child.stdin.write(json.dumps(to_plain(request)).encode() + b"\n")
            for told in _told(pipe):
                memory = peak_memory(child.pid) or memory
                if "phase" in told:
                    on_progress(told["phase"], told["share"])
                elif "note" in told:
                    log(told["note"])
                elif "error" in told:
                    error = told["error"]
                elif "built" in told:
                    built = from_plain(BuiltEngine, told["built"], "built engine", EngineError)
            code = child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if error:
            raise EngineError(f"part {request.spec.name!r}: {error}")
        if built is None or code != 0:
            raise EngineError(_death(request, code, memory, said))
        return built


def _told(pipe: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what the child tells until it closes its end, and nothing told where it is silent for a while."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(_LOOK_SECONDS):
                yield {}
                continue
            block = os.read(pipe.fileno(), 1 << 16)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from map(json.loads, lines)


def peak_memory(process: int | str) -> int | None:
    """Return the most bytes that a process (`self`: this one) had in memory; None where the kernel does not tell."""
    with contextlib.suppress(OSError, LookupError, ValueError):
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    return None


def _death(request: EngineRequest, code: int, memory: int, said: IO[bytes]) -> str:
    """Return what to tell of a child that ended without a word."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_CHARACTERS))
    tail = " ".join(said.read().decode(errors="replace").split())
    name = request.spec.name
    if code == -signal.SIGKILL:
        return (
            f"the process that built part {name!r} was killed (SIGKILL), most likely because memory ran out: it had "
            f"taken {size_text(memory)}. Close other programs, add swap, or build with fewer frames; engines that "
            "are finished are kept, so the same command goes on from here"
        )
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the process that built part {name!r} {how}, having taken {size_text(memory)}; it said: {tail or 'nothing'}"
