"""Findings on the device itself, whatever is to run there."""

from __future__ import annotations

from collections.abc import Iterator

from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.jetpack import JETPACKS, JetPack, jetpack_of_l4t, nearest_jetpack
from stts_runtime.device.probe import Probe
from stts_runtime.sizes import size_text


def device_finding(probe: Probe) -> Finding:
    """Say what machine this is."""
    model = f"{probe.jetson_model}, " if probe.jetson_model else ""
    return Finding(OK, "device", f"{model}{probe.system} on {probe.machine}, Python {probe.python}")


def gpu_finding(probe: Probe, wanted: bool) -> Finding:
    """Say which GPU engines would run on.

    Args:
        probe: the device.
        wanted: whether a bundle needs one; then none is a problem.
    """
    driver = _driver(probe)
    if probe.compute_capability is not None and probe.cuda_loaded and probe.cuda_error is None:
        memory = "memory unknown" if probe.gpu_memory_bytes is None else size_text(probe.gpu_memory_bytes)
        shared = ", shared with the CPU" if probe.shared_memory else ""
        return Finding(OK, "gpu", f"{probe.gpu_name}, SM {probe.compute_capability}, {memory}{shared}{driver}")
    if probe.cuda_error is not None:
        text = f"CUDA refuses: {probe.cuda_error}{driver}"
        advice = (
            "if the driver was updated, reboot; see that CUDA_VISIBLE_DEVICES does not hide the GPU and that this user "
            "may open /dev/nvidia* (on a Jetson: is in the groups video and render)"
        )
    elif probe.gpu_name is not None or probe.jetson_model is not None:
        name = probe.gpu_name or "a Jetson's GPU"
        text = f"{name} is there, but the CUDA driver library (libcuda.so.1) is not{driver}"
        advice = (
            "in a container: start it with the GPU (docker run --gpus all, on a Jetson --runtime nvidia) and "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility; else install the NVIDIA driver"
        )
    else:
        text = "no NVIDIA GPU, or no driver for it"
        advice = "bundles built with --target cpu run here; for a GPU, install the NVIDIA driver"
        if wanted:
            advice = "build the bundle again with `stts-export build --target cpu`, or install the NVIDIA driver"
    return Finding(PROBLEM if wanted else WARNING, "gpu", text, advice)


def jetpack_findings(probe: Probe) -> Iterator[Finding]:
    """Say which JetPack a Jetson has; nothing elsewhere."""
    if probe.l4t is None:
        if probe.jetson_model is not None:
            advice = "in a container, mount it: docker run -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
            yield Finding(WARNING, "jetpack", "unknown: /etc/nv_tegra_release is not there", advice)
        return
    near = nearest_jetpack(probe.l4t)
    if jetpack_of_l4t(probe.l4t) is not None:
        yield Finding(OK, "jetpack", f"{near.name} (L4T {probe.l4t}): {_contents(near)}")
        return
    yield Finding(
        WARNING,
        "jetpack",
        f"L4T {probe.l4t} is not in the table of known JetPacks ({', '.join(known.name for known in JETPACKS)}); "
        f"the nearest is {near.name} (L4T {near.l4t_releases[-1]}): {_contents(near)}",
        f"what holds for {near.name} is assumed; engines are built for the TensorRT that is found, so a bundle may "
        "well run: build, then compare with `stts-runtime verify`. If it does not, install a JetPack of the table",
    )


def power_findings(probe: Probe) -> Iterator[Finding]:
    """Say that a Jetson's power mode holds its clocks down; nothing elsewhere."""
    if probe.power_mode is None:
        return
    if probe.power_mode.startswith("MAXN"):
        yield Finding(OK, "power", f"mode {probe.power_mode}")
        return
    yield Finding(
        WARNING,
        "power",
        f"mode {probe.power_mode} holds the clocks below those of published speeds",
        "if the supply and the cooling allow it: `sudo nvpmodel -p --verbose` lists the modes, `sudo nvpmodel -m "
        "ID` takes one, `sudo jetson_clocks` holds the clocks up",
    )


def free_memory_finding(probe: Probe) -> Finding:
    """Say how much memory there is and how much is free."""
    if probe.total_memory_bytes is None or probe.free_memory_bytes is None:
        return Finding(WARNING, "memory", "unknown: /proc/meminfo is not there", "see what the system says")
    main = f"{size_text(probe.free_memory_bytes)} of {size_text(probe.total_memory_bytes)} free"
    if probe.shared_memory:
        return Finding(OK, "memory", f"{main}, for CPU and GPU together")
    if probe.gpu_memory_bytes is None:
        return Finding(OK, "memory", main)
    free = "unknown" if probe.free_gpu_memory_bytes is None else size_text(probe.free_gpu_memory_bytes)
    return Finding(OK, "memory", f"{main}; of the GPU's {size_text(probe.gpu_memory_bytes)}: {free}")


def free_disk_findings(probe: Probe) -> Iterator[Finding]:
    """Say how much room a disk has; nothing where that cannot be told."""
    if probe.free_disk_bytes is not None:
        yield Finding(OK, "disk", f"{size_text(probe.free_disk_bytes)} free at {probe.disk_path}")


def _driver(probe: Probe) -> str:
    driver = f", driver {probe.driver}" if probe.driver else ""
    return driver + (f", CUDA up to {probe.cuda}" if probe.cuda else "")


def _contents(jetpack: JetPack) -> str:
    extra = f" or {jetpack.tensorrt_extra}" if jetpack.tensorrt_extra else ""
    return f"Ubuntu {jetpack.ubuntu}, Python {jetpack.python}, CUDA {jetpack.cuda}, TensorRT {jetpack.tensorrt}{extra}"
