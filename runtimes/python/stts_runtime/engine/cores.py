"""How many cores this process may use, where that is fewer than the machine has.

Onnxruntime starts a thread a physical core of the machine, whatever a container or `taskset` leaves of it: threads that
share a core wait for each other at the end of every operator.
"""

from __future__ import annotations

import math
import os
from pathlib import Path


CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def allowed_cores() -> int | None:
    """Return how many cores this process may use at once; None where it may use all, or nobody says."""
    machine = os.cpu_count() or 1
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = cpu_quota()
    least = min(machine, pinned, machine if quota is None else max(1, math.ceil(quota)))
    return least if least < machine else None


def cpu_quota(cgroups: Path = CGROUPS, own: Path = OWN) -> float | None:
    """Return how many cores' time Linux gives this process's control group (version 2 or 1); None without a limit.

    Args:
        cgroups: where control groups are mounted.
        own: says which is this process's. Its parents' limits hold too.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        group = root / path.lstrip("/")
        # in a container the path may be the host's, of which only the end, mounted as the root, is there
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            found += filter(None, [_limit(folder)])
    return min(found, default=None)


def _limit(folder: Path) -> float | None:
    """Return the limit that a group itself has."""
    try:
        if (one := folder / "cpu.max").is_file():
            quota, period = one.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
