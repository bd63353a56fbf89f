"""What a device is: its GPU, memory, system and engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stts_runtime.bundle.backend import TENSORRT, TENSORRT_RTX
from stts_runtime.device import jetson, memory, nvidia, packages
from stts_runtime.device.readings import Readings, Run, read_device, run_command


@dataclass(frozen=True)
class Probe:
    """A device; None where something is not there, or cannot be told."""

    machine: str  # `x86_64`, `aarch64`
    system: str
    python: str  # of the running interpreter, `3.10.12`
    glibc: str | None  # version of the C library, `2.35`; empty where it is another than GNU's
    jetson_model: str | None
    l4t: str | None  # release of Jetson Linux, `36.4.3`
    power_mode: str | None  # of a Jetson: `MAXN`, `15W`
    gpu_name: str | None  # of the GPU that CUDA shows first
    compute_capability: int | None  # of that GPU, 87 is 8.7
    shared_memory: bool  # whether that GPU uses the CPU's memory
    gpu_memory_bytes: int | None
    free_gpu_memory_bytes: int | None
    total_memory_bytes: int | None
    free_memory_bytes: int | None  # of main memory, what programs can get
    free_swap_bytes: int | None  # swap space on disks, where a build's host memory can go
    disk_path: str  # where disk space was looked at
    free_disk_bytes: int | None
    driver: str | None
    cuda: str | None  # newest CUDA that the driver serves, `12.6`
    cuda_error: str | None  # what CUDA refuses with
    cuda_loaded: bool
    tensorrt: str | None  # version that this Python sees; so with `tensorrt_rtx` and `onnxruntime`
    tensorrt_cuda: int | None  # major version of CUDA that its wheel is for, if it says so; so with `tensorrt_rtx_cuda`
    system_tensorrt: str | None  # version that apt installed
    tensorrt_rtx: str | None
    tensorrt_rtx_cuda: int | None
    onnxruntime: str | None
    onnxruntime_providers: tuple[str, ...]  # by onnxruntime's names
    cuda_bindings: str | None  # version of cuda-bindings, or of a cuda-python from before they were split off

    def version_of(self, backend: str) -> str | None:
        """Return the version of a backend's package that this Python sees."""
        return {TENSORRT.name: self.tensorrt, TENSORRT_RTX.name: self.tensorrt_rtx}.get(backend, self.onnxruntime)


def probe_device(root: Path = Path("/"), run: Run = run_command, disk: Path = Path()) -> Probe:
    """Return what this device is; takes a few tenths of a second, most of them nvidia-smi's.

    Args:
        root: below which /proc and /etc lie.
        run: runs a command.
        disk: a path on the file system whose free space matters.
    """
    return probe_from_readings(read_device(root, run, disk=disk))


def probe_from_readings(readings: Readings) -> Probe:
    """Return what a device is, from what it said."""
    files, commands, distributions = readings.files, readings.commands, readings.distributions
    cuda = readings.libcuda
    device = cuda.device
    smi = nvidia.smi_gpu_at(nvidia.smi_gpus(_output(commands, nvidia.QUERY)), device.bus_id if device else None)
    model = jetson.jetson_model(files.get(jetson.MODEL))
    meminfo = files.get(memory.MEMINFO)
    total, free = memory.memory_bytes(meminfo, "MemTotal"), memory.memory_bytes(meminfo, "MemAvailable")
    shared = model is not None or (device is not None and device.integrated)
    # a slice of a GPU (MIG) is smaller than what nvidia-smi, which counts the whole one, calls free
    gpu_total = device.memory_bytes if device else smi.total_bytes if smi else None
    gpu_free = smi.free_bytes if smi else None
    if gpu_total is not None and gpu_free is not None:
        gpu_free = min(gpu_free, gpu_total)
    tensorrt, rtx = (
        packages.version_of(module, distributions, _output(commands, packages.version_command(module)))
        for module in packages.MODULES
    )
    return Probe(
        machine=readings.machine,
        system=readings.system,
        python=readings.python,
        glibc=readings.glibc,
        jetson_model=model,
        l4t=jetson.l4t_release(files.get(jetson.RELEASE)),
        power_mode=jetson.power_mode(_output(commands, jetson.POWER_MODE)),
        gpu_name=device.name if device else smi.name if smi else None,
        compute_capability=device.compute_capability if device else smi.compute_capability if smi else None,
        shared_memory=shared,
        gpu_memory_bytes=total if shared else gpu_total,
        free_gpu_memory_bytes=free if shared else gpu_free,
        total_memory_bytes=total,
        free_memory_bytes=free,
        free_swap_bytes=memory.free_swap_bytes(files.get(memory.SWAPS)),
        disk_path=readings.disk_path,
        free_disk_bytes=readings.free_disk_bytes,
        driver=smi.driver if smi else None,
        cuda=_cuda_text(cuda.driver_version),
        cuda_error=cuda.error,
        cuda_loaded=cuda.loaded,
        tensorrt=tensorrt[0],
        tensorrt_cuda=tensorrt[1],
        system_tensorrt=packages.system_tensorrt(_output(commands, packages.SYSTEM_PACKAGES)),
        tensorrt_rtx=rtx[0],
        tensorrt_rtx_cuda=rtx[1],
        onnxruntime=packages.onnxruntime_version(distributions),
        onnxruntime_providers=packages.onnxruntime_providers(distributions, readings.provider_libraries),
        cuda_bindings=distributions.get("cuda-bindings") or distributions.get("cuda-python"),
    )


def _output(commands: dict[str, str | None], command: tuple[str, ...]) -> str | None:
    return commands.get(" ".join(command))


def _cuda_text(version: int | None) -> str | None:
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"
