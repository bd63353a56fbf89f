"""Look at this machine as the place where bundles are built."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

from stts_export.checkpoint.package_file import SMOLLM2, find_gguf
from stts_export.doctor.targets import Buildable, buildable
from stts_export.errors import CheckpointError
from stts_export.installed import NAME, extras, misfits, requirements, version_of
from stts_export.kernels.compilers import COMPILERS, compiler_for
from stts_export.recipe.target import all_targets
from stts_runtime.device import hardware
from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.plugins import library_finding
from stts_runtime.device.probe import Probe
from stts_runtime.sizes import GIB, size_text


Ask = Callable[[str], tuple[int, str]]
"""Runs a line of Python in a process of its own; returns its exit code and the last line that it printed."""

ENOUGH_DISK, ENOUGH_MEMORY = 2 * GIB, 3 * GIB  # micro's bundle with its checkpoint; the peak of building it
_TORCH = "import torch; print(torch.version.cuda or 'CPU', torch.cuda.is_available())"


def ask_python(code: str) -> tuple[int, str]:
    """Run a line in another process of this Python: a package that is broken may take the process with it."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return 1, "it took longer than five minutes"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else f"it ended with code {done.returncode}"


def check_host(probe: Probe, ask: Ask = ask_python) -> tuple[tuple[Finding, ...], tuple[Buildable, ...]]:
    """Return what is to be said of this machine, in reading order, and what can be built for each target."""
    torch = torch_finding(ask)
    targets = tuple(buildable(target, probe, torch.level != PROBLEM) for target in all_targets())
    findings = (
        hardware.device_finding(probe),
        torch,
        *package_findings(),
        memory_finding(probe),
        *disk_findings(probe),
        gpu_finding(probe),
        *extra_findings(),
        micro_finding(),
        library_finding(),
        compiler_finding(),
        *target_findings(targets),
    )
    return findings, targets


def torch_finding(ask: Ask) -> Finding:
    """Say whether torch is the one whose exporter was tested, and works."""
    (wanted,) = (one for one in requirements() if one.name == "torch")
    install = f"pip install '{wanted}'"
    version = version_of("torch")
    if version is None:
        return Finding(PROBLEM, "torch", f"not installed, and {wanted} is needed", install)
    if misfits((wanted,)):
        return Finding(PROBLEM, "torch", f"{version}, and graphs are traced by {wanted} alone", install)
    code, said = ask(_TORCH)
    if code != 0:
        return Finding(
            PROBLEM, "torch", f"{version} cannot be imported: {said}", f"pip install --force-reinstall '{wanted}'"
        )
    cuda, available = said.rsplit(" ", 1)
    if cuda == "CPU":
        return Finding(OK, "torch", f"{version}, for CPUs: all that building needs; training on a GPU wants CUDA's")
    seen = "sees the GPU" if available == "True" else "sees no GPU, and builds without"
    return Finding(OK, "torch", f"{version}, for CUDA {cuda}; it {seen}")


def package_findings() -> Iterator[Finding]:
    """Say what else is always needed, and is missing or of a version that will not do; one line where all is well."""
    wanted = tuple(one for one in requirements() if one.name != "torch")
    found = misfits(wanted)
    for one, version in found:
        text = f"{version}, wanted {one.specifier}" if version else "not installed"
        yield Finding(PROBLEM, one.name, text, f"pip install '{one}'")
    if not found:
        yield Finding(OK, "packages", f"all {len(wanted)} that {NAME} {version_of(NAME)} needs beside torch")


def extra_findings() -> Iterator[Finding]:
    """Say of each extra whether it is there."""
    here = []
    for extra in extras():
        lacking = misfits(requirements(extra))
        if not lacking:
            here.append(extra)
            continue
        missing = ", ".join(f"{one.name} {version or 'missing'}" for one, version in lacking)
        yield Finding(OK, f"[{extra}]", f"not here ({missing})", f"pip install '{NAME}[{extra}]'")
    if here:
        yield Finding(OK, "extras", f"here: {', '.join(here)}")


def micro_finding() -> Finding:
    """Say whether the decoder that the micro model takes from a package is there."""
    try:
        return Finding(OK, "micro", f"its decoder lies in {find_gguf(SMOLLM2)}")
    except CheckpointError as error:
        text, _, install = str(error).rpartition("\n")
        return Finding(OK, "micro", text.replace("\n", " "), f"{install.strip()} (nano needs none of it)")


def memory_finding(probe: Probe) -> Finding:
    """Say how much memory there is, and whether that is enough for the models that come with the project."""
    found, free = hardware.free_memory_finding(probe), probe.free_memory_bytes
    if free is None or free >= ENOUGH_MEMORY:
        return found
    text = f"{found.text}: building micro takes up to {size_text(ENOUGH_MEMORY)}"
    return Finding(WARNING, found.topic, text, "`stts-export estimate` says what your own model takes")


def disk_findings(probe: Probe) -> Iterator[Finding]:
    """Say how much room there is, and whether that is enough for the models that come with the project."""
    free = probe.free_disk_bytes
    for found in hardware.free_disk_findings(probe):
        if free is None or free >= ENOUGH_DISK:
            yield found
        else:
            text = f"{found.text}: building micro takes {size_text(ENOUGH_DISK)}, nano 20 MiB"
            yield Finding(WARNING, found.topic, text, "free some space, or build on another disk")


def gpu_finding(probe: Probe) -> Finding:
    """Say which GPU is here; none is no fault on a machine that builds."""
    found = hardware.gpu_finding(probe, wanted=False)
    if found.level == OK or probe.gpu_name is not None or probe.cuda_error is not None:
        return found
    return Finding(OK, "gpu", f"{found.text}: graphs are traced and checked without one")


def compiler_finding() -> Finding:
    """Say for which machines the library of plugins could be compiled here, if it is not there."""
    here = [machine for machine in COMPILERS if compiler_for(machine)]
    if here:
        return Finding(OK, "compiler", f"of plugins, in a checkout: for {', '.join(here)}")
    return Finding(
        OK, "compiler", f"none for {os.uname().machine}: plugins cannot be compiled here", "apt install g++ make"
    )


def target_findings(targets: tuple[Buildable, ...]) -> Iterator[Finding]:
    """Say what can be built, targets of which the same is to be said together."""
    said: dict[tuple[str, str], list[str]] = {}
    for one in targets:
        said.setdefault((one.text, one.advice), []).append(one.name)
    for (text, advice), names in said.items():
        yield Finding(OK, "targets", f"{', '.join(names)}: {text}", advice)
