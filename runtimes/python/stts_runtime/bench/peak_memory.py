"""How much memory a stage takes at its peak, from the kernel's own high-water mark.

Only Linux keeps one that can be set back (`/proc/self/clear_refs`). Elsewhere there is no figure: sampling would miss
peaks, and a figure that misses them is worse than none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stts_runtime.timings import Timings


CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5); costs microseconds, other values walk all pages


@dataclass(frozen=True)
class Resident:
    """Bytes of this process in memory: now, of these mapped from files, and at most since the last reset."""

    total: int
    files: int
    peak: int

    @property
    def own(self) -> int:
        """What is there now and not mapped from files."""
        return self.total - self.files


def can_reset_peak(clear: Path = CLEAR) -> bool:
    """Return whether the high-water mark can be set back, which it is by asking."""
    try:
        clear.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def resident() -> Resident:
    """Return what the kernel says; Linux only."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    total, files, peak = (int(lines[key].split()[0]) << 10 for key in ("VmRSS", "RssFile", "VmHWM"))
    return Resident(total, files, max(peak, total))


def return_free_memory() -> None:
    """Have the C library give back what was freed, so that it is not taken again unseen; glibc only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass
class PeakTimings(Timings):
    """A timings that also measures memory, where `can_reset_peak`; its times are a little too long.

    Pages of files, that is memory-mapped weights, are not counted.
    """

    # the most a stage took above what was there when it began, results it was first to write included
    working_bytes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        return_free_memory()
        can_reset_peak()
        self._start = resident()
        self._highest = self._start.own

    @property
    def peak_bytes(self) -> int:
        """The most so far above what was there when this was made."""
        now = resident()
        return max(self._highest, now.peak - now.files) - self._start.own

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add time and memory of the `with` block to stage `name`."""
        between = resident()
        return_free_memory()
        can_reset_peak()
        before = resident()
        with super().stage(name):
            yield
        after = resident()
        peak = after.peak - max(after.files, before.files)
        self._highest = max(self._highest, between.peak - between.files, peak)
        working = max(0, peak - before.own)
        self.working_bytes[name] = max(self.working_bytes.get(name, 0), working)
