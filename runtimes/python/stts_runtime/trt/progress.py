"""How far a build is, from TensorRT's phases and steps."""

from __future__ import annotations

import threading
from typing import Any

from stts_runtime.progress import OnProgress


class Phases:
    """The tree of running phases, and the share of the outermost that is done; never goes back."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._lock = threading.Lock()  # TensorRT calls from several threads
        self._running: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done; outermost first
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase within `parent`."""
        with self._lock:
            self._running[name] = (parent, max(1, steps), 0)
            self._tell(name)

    def step(self, name: str, step: int) -> None:
        """Step number `step` of a phase is done."""
        with self._lock:
            if name in self._running:
                parent, steps, _ = self._running[name]
                self._running[name] = (parent, steps, min(steps, step + 1))
                self._tell(name)

    def finish(self, name: str) -> None:
        """End a phase."""
        with self._lock:
            self._running.pop(name, None)

    def _tell(self, name: str) -> None:
        share = 0.0
        at: str | None = name
        for _ in range(len(self._running)):  # up to the outermost; a parent may have ended before its child
            if at is None or at not in self._running:
                break
            parent, steps, done = self._running[at]
            share = min(1.0, (done + share) / steps)
            at = parent
        if at is None:
            self._share = max(self._share, share)
        self._on_progress(name, self._share)


def progress_monitor(module: Any, on_progress: OnProgress) -> Any:
    """Return an `IProgressMonitor` that calls `on_progress`; keep it until the engine is built."""
    phases = Phases(on_progress)

    class Monitor(module.IProgressMonitor):
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True  # False would stop the build; whoever wants that ends the process

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
