"""Run one case in a fork with limits of memory and time, and say how it ended."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


MEMORY = 3 << 30  # bytes of address space beyond what the parent has: libraries reserve more than they use
OURS, FINE, RAW, CRASH, HANG = "refused", "accepted", "raw exception", "crash", "hang"
BAD = (RAW, CRASH, HANG)


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and what was said."""

    how: str
    text: str
    seconds: float


def run_forked(case: Callable[[], object], seconds: float) -> Outcome:
    """Run `case` in a fork of this process and return how it ended.

    Our own errors count as refusals, MemoryError under the limit too; every other exception is raw, also one that is no
    Exception (a panic of a library in Rust).

    Args:
        case: what to do; nothing of it reaches this process.
        seconds: it is killed after this time.
    """
    begun = time.monotonic()
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _be_the_child(case, writer)
    os.close(writer)
    said, hung = b"", False
    while True:
        left = begun + seconds - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            hung = True
            os.kill(process, signal.SIGKILL)
            break
        piece = os.read(reader, 65536)
        if not piece:
            break
        said += piece
    os.close(reader)
    _, status = os.waitpid(process, 0)
    took = time.monotonic() - begun
    if hung:
        return Outcome(HANG, f"no answer in {seconds:.0f} s", took)
    how, _, text = said.decode(errors="replace").partition("\n")
    if how not in (OURS, FINE, RAW):
        return Outcome(CRASH, f"ended with status {status}", took)
    return Outcome(how, text, took)


def _be_the_child(case: Callable[[], object], writer: int) -> None:
    """Run the case, write how it ended, and leave without a word to what the parent has registered for its own end."""
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from stts_runtime.errors import SttsError

    try:
        case()
        said = f"{FINE}\n"
    except SttsError as error:
        said = f"{OURS}\n{type(error).__name__}: {error}"
    except MemoryError as error:
        said = f"{OURS}\nMemoryError: {error}"
    except BaseException as error:
        said = f"{RAW}\n{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-4:])}"
    os.write(writer, said.encode(errors="replace")[:60000])
    sys.stdout.flush()
    os._exit(0)
