"""Findings on the plugins of a bundle: whether a device can load them, before anything does."""

from __future__ import annotations

from collections.abc import Iterator

from stts_runtime.bundle.backend import TENSORRT, TENSORRT_RTX, backend_named
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plugin_library import HOW_TO_GET, LIBRARY, file_for, found_libraries, library_misfit
from stts_runtime.bundle.plugin_page import read_page
from stts_runtime.bundle.versions import numbers, release_of
from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.probe import Probe
from stts_runtime.errors import SttsError
from stts_runtime.trt.dialect import OLDEST_WITH_PLUGINS
from stts_runtime.vision import host_plan


TRIED = {TENSORRT_RTX.name: (1, 7)}
"""Backend -> the release that has loaded the plugins: to build engines; none has run them yet."""

_PORTABLE = "or build the bundle with --ops portable"


def plugin_findings(probe: Probe, bundle: Bundle) -> Iterator[Finding]:
    """Say whether the plugins of a bundle run on a device; nothing where its graphs have none."""
    engine = bundle.manifest.engine
    if not engine.has_plugins:
        return
    topic, backend = "plugins", backend_named(engine.backend)
    version = probe.version_of(backend.name)
    if backend.name == TENSORRT.name and version is not None and release_of(version) < OLDEST_WITH_PLUGINS:
        text = f"{backend.title} {version} cannot load plugins of this kind, which came with TensorRT 10"
        yield Finding(PROBLEM, topic, text, f"install a later JetPack or TensorRT, {_PORTABLE}")
        return
    if reason := library_misfit(bundle, probe.machine, None if probe.glibc is None else numbers(probe.glibc)):
        advice = f"build the bundle again with the library for this machine ({HOW_TO_GET}), {_PORTABLE}"
        yield Finding(PROBLEM, topic, reason, advice)
        return
    page = read_page(bundle.file(file_for(probe.machine)))
    if page is None:
        text = f"{file_for(probe.machine)} has no page that says for which GPUs it has kernels"
        yield Finding(WARNING, topic, text, "`stts-runtime verify` tells whether it runs here")
        return
    sm, sms = probe.compute_capability, ", ".join(map(str, page.sms))
    if sm is not None and not page.serves(sm):
        text = f"the library has kernels for SM {sms}, and this GPU is SM {sm}"
        yield Finding(PROBLEM, topic, text, f"make it with this GPU's (`make plugins SMS={sm}`), {_PORTABLE}")
        return
    wanted = page.cuda.get(page.sm_for(sm) or 0) if sm is not None else None
    if wanted is not None and probe.cuda is not None and numbers(probe.cuda)[0] < wanted:
        text = f"the kernels for this GPU were compiled by CUDA {wanted}, and the driver serves CUDA up to {probe.cuda}"
        yield Finding(PROBLEM, topic, text, f"update the NVIDIA driver, {_PORTABLE}")
        return
    yield Finding(OK, topic, f"contract {page.contract}, kernels for SM {sms}")
    if version is None or release_of(version) == TRIED.get(backend.name):
        return
    tried = ", ".join(f"{backend_named(name).title} {a}.{b}" for name, (a, b) in TRIED.items())
    if backend.name in TRIED:
        age = _age(version, TRIED[backend.name], "it")
    else:
        headers = page.tensorrt_headers
        age = _age(version, release_of(headers), f"{headers}, whose headers the library was compiled against")
    text = f"they were tried with {tried} and no other, and {backend.title} {version} is here, {age}"
    advice = "run `stts-runtime verify`, which holds the engines against the recorded model"
    yield Finding(WARNING, topic, text, advice)


def library_finding() -> Finding:
    """Say which libraries of ours this installation finds: for builds with plugins, and for the host's plan."""
    try:
        libraries = found_libraries()
        planner = host_plan.LIBRARY if host_plan.host_call() is not None else "numpy"
    except SttsError as error:
        return Finding(WARNING, "plugins", str(error))
    plans = f"plans are made by {planner}"
    if not libraries:
        return Finding(OK, "plugins", f"no {LIBRARY} here, so builds have none; {plans}", HOW_TO_GET)
    found = ", ".join(f"{machine} ({file})" for machine, file in sorted(libraries.items()))
    return Finding(OK, "plugins", f"{LIBRARY} for {found}; {plans}")


def _age(version: str, known: tuple[int, int], name: str) -> str:
    release = release_of(version)
    return f"as new as {name}" if release == known else f"{'newer' if release > known else 'older'} than {name}"
