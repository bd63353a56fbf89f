"""What a build for a target brings on this machine: everything, all but engines, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.target import Target
from stts_runtime.device.probe import Probe


WHOLE, GRAPHS, NOTHING = "whole", "graphs", "nothing"


@dataclass(frozen=True)
class Buildable:
    """What `stts-export build --target NAME` brings here."""

    name: str
    builds: str  # `whole`: nothing is left to do; `graphs`: engines are built on the device; `nothing`
    text: str  # in words, and why
    advice: str = ""  # what would bring more; empty if nothing would, or nothing is missing


def buildable(target: Target, probe: Probe, traces: bool) -> Buildable:
    """Return what can be built here for a target, by the engine that it takes when nothing else is asked for.

    Args:
        target: what is to be built for.
        probe: this machine.
        traces: whether graphs can be made here at all, which is torch's.
    """
    backend = backend_named(target.backends[0])
    if not traces:
        return Buildable(target.name, NOTHING, "nothing, before torch is mended")
    if not backend.needs_engines:
        return Buildable(target.name, WHOLE, f"whole bundles, run by {backend.title}")
    if not backend.builds_on_device:
        if version := probe.version_of(backend.name):
            return Buildable(target.name, WHOLE, f"whole bundles, with engines by {backend.title} {version}")
        text = f"graphs, with --no-engines: {backend.title}, which builds engines on any machine, is not here"
        return Buildable(target.name, GRAPHS, text, "pip install 'stts-export[rtx]'")
    if probe.compute_capability not in target.compute_capabilities:
        return Buildable(target.name, GRAPHS, "graphs, traced and checked; engines on the device: stts-runtime build")
    if version := probe.version_of(backend.name):
        return Buildable(target.name, WHOLE, f"whole bundles, with engines by {backend.title} {version} for this GPU")
    text = f"graphs, with --no-engines: {backend.title}, which builds engines for this GPU, is not here"
    return Buildable(target.name, GRAPHS, text, backend.install)
