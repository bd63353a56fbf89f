"""Main memory and swap, from /proc."""

from __future__ import annotations

import re


MEMINFO = "/proc/meminfo"
SWAPS = "/proc/swaps"


def memory_bytes(text: str | None, name: str) -> int | None:
    """Return the entry `name` of `/proc/meminfo` (`MemTotal`, `MemAvailable`); None without it.

    On a Jetson this is the GPU's memory too. `MemAvailable` counts what the kernel would give up, which `MemFree` and
    CUDA's own count of free memory leave out.
    """
    found = re.search(rf"^{name}:\s+(\d+) kB$", text or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def free_swap_bytes(text: str | None) -> int | None:
    """Return the free swap space on disks that `/proc/swaps` lists, in bytes; None without the file.

    zram, which Jetsons come with, is left out: it lies in main memory, and weights do not compress.
    """
    if text is None:
        return None
    rows = [line.split() for line in text.splitlines()[1:]]
    on_disk = [row for row in rows if len(row) == 5 and "zram" not in row[0]]
    return sum(int(size) - int(used) for _, _, size, used, _ in on_disk) * 1024
