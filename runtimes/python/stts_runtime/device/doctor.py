"""Preflight: what this device can run, whether a bundle fits it, and what to do where it does not."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from stts_runtime.bundle.backend import ONNXRUNTIME
from stts_runtime.bundle.open import Bundle
from stts_runtime.device import fit, hardware
from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.known_targets import KnownTarget, targets_for
from stts_runtime.device.plugins import plugin_findings
from stts_runtime.device.probe import Probe, probe_device
from stts_runtime.device.software import backend_findings
from stts_runtime.errors import EngineError


def check(probe: Probe, bundle: Bundle | None = None) -> tuple[Finding, ...]:
    """Return what is to be said of a device, or of a bundle on it, in reading order.

    Args:
        probe: the device.
        bundle: what is to run there; without one, what the device can do is said, and nothing is a problem.
    """
    return _check_device_alone(probe) if bundle is None else _check_bundle(probe, bundle)


def check_device(bundle: Bundle, probe: Probe | None = None) -> tuple[Finding, ...]:
    """Return the warnings on a bundle on this device; `load` asks before it touches an engine.

    Args:
        bundle: what is to be loaded; one for the CPU has nothing to check here.
        probe: the device; default this one.

    Raises:
        EngineError: it cannot run here; the message lists every problem with its advice. Memory that may not suffice is
            a warning, and only weights that can never fit are a problem.
    """
    if bundle.manifest.engine.device != "cuda":
        return ()
    findings = check(probe or probe_device(disk=bundle.path), bundle)
    # that engines are still to be built is no problem of the device, but nothing can be loaded without
    problems = [found for found in findings if found.level == PROBLEM or (found.topic, found.level) == _UNBUILT]
    if problems:
        lines = [f"{bundle.path} cannot run on this device:"]
        for found in problems:
            lines.append(f"  {found.topic}: {found.text}")
            if found.advice:
                lines.append(f"    {found.advice}")
        place = shlex.quote(str(bundle.path))
        raise EngineError("\n".join([*lines, f"`stts-runtime doctor {place}` says more"]))
    return tuple(found for found in findings if found.level == WARNING)


_UNBUILT = ("engines", WARNING)


def _check_device_alone(probe: Probe) -> tuple[Finding, ...]:
    targets = targets_for(probe.compute_capability, probe.gpu_memory_bytes)
    gpu_backends = list(dict.fromkeys(target.backend for target in targets if target.compute_capabilities))
    # of several engines that would do, one that is there is enough
    gpu_backends = [backend for backend in gpu_backends if probe.version_of(backend)] or gpu_backends
    packages = [
        *(found for backend in gpu_backends for found in backend_findings(probe, backend, "cuda", wanted=False)),
        *backend_findings(probe, ONNXRUNTIME.name, "cpu", wanted=False),
    ]
    return (
        hardware.device_finding(probe),
        hardware.gpu_finding(probe, wanted=False),
        *hardware.jetpack_findings(probe),
        *hardware.power_findings(probe),
        *dict.fromkeys(packages),  # each once: both TensorRTs need the same bindings
        hardware.free_memory_finding(probe),
        *hardware.free_disk_findings(probe),
        _targets_finding(probe, targets, (*gpu_backends, ONNXRUNTIME.name)),
    )


def _targets_finding(probe: Probe, targets: tuple[KnownTarget, ...], said: Sequence[str]) -> Finding:
    """Say which targets' bundles run, and which would; `said` are the backends that were spoken of."""
    names: dict[str, list[str]] = {}
    for target in targets:
        names.setdefault(_readiness(probe, target, said), []).append(target.name)
    text = "; ".join(f"bundles for {', '.join(found)} {readiness}" for readiness, found in names.items())
    return Finding(OK, "targets", text)


def _readiness(probe: Probe, target: KnownTarget, said: Sequence[str]) -> str:
    if target.backend not in said:
        return f"fit this GPU too, and want {target.backend} installed"
    device = "cuda" if target.compute_capabilities else "cpu"
    findings = backend_findings(probe, target.backend, device, wanted=True)
    if device == "cuda":
        findings += (hardware.gpu_finding(probe, wanted=True),)
    blocked = any(found.level == PROBLEM for found in findings)
    return f"fit this {'GPU' if device == 'cuda' else 'device'}, once the above is solved" if blocked else "run here"


def _check_bundle(probe: Probe, bundle: Bundle) -> tuple[Finding, ...]:
    engine = bundle.manifest.engine
    findings = [hardware.device_finding(probe)]
    if engine.device == "cuda":
        findings += [hardware.gpu_finding(probe, wanted=True), *hardware.jetpack_findings(probe)]
        findings += hardware.power_findings(probe)
    engines, built = fit.engine_findings(probe, bundle)
    findings += fit.target_findings(probe, bundle, ready=built is not None)
    if fit.is_for_another_gpu(probe, bundle, ready=built is not None):
        return tuple(findings)  # the bundle is to be built again: what it wants is not worth installing
    findings += backend_findings(probe, engine.backend, engine.device, wanted=True)
    findings += plugin_findings(probe, bundle)
    findings += engines
    findings += fit.weight_findings(bundle)
    findings.append(fit.run_memory_finding(probe, bundle, built))
    needed = bundle.manifest.memory
    if engines and built is None and needed.engines:
        findings += [fit.build_memory_finding(probe, needed), fit.build_disk_finding(probe, needed)]
    return tuple(findings)
