"""Findings on the packages that run engines: there, of a version we know, and of a CUDA that the driver serves."""

from __future__ import annotations

from stts_runtime.bundle.backend import TENSORRT, backend_named
from stts_runtime.bundle.versions import numbers
from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.jetpack import JetPack, nearest_jetpack
from stts_runtime.device.probe import Probe
from stts_runtime.engine.cuda import install_command
from stts_runtime.trt.bindings import OLDEST


RTX_COMPUTE_CAPABILITIES = (75, 80, 86, 89, 120, 121)
"""SMs that TensorRT-RTX 1.7 knows."""

_CUDA_13_DRIVER = "580 or later"  # CUDA toolkit release notes


def backend_findings(probe: Probe, backend: str, device: str, wanted: bool) -> tuple[Finding, ...]:
    """Say whether the package of a backend is there and will do.

    Args:
        probe: the device.
        backend: `onnxruntime`, `tensorrt` or `tensorrt_rtx`.
        device: `cpu` or `cuda`.
        wanted: whether a bundle needs it; then what is missing is a problem, else a warning.
    """
    level = PROBLEM if wanted else WARNING
    if not backend_named(backend).needs_engines:
        return (_onnxruntime(probe, device, level),)
    engine = _tensorrt(probe, level) if backend == TENSORRT.name else _tensorrt_rtx(probe, level)
    return (engine, _cuda_bindings(probe, level))


def _onnxruntime(probe: Probe, device: str, level: str) -> Finding:
    install = "pip install onnxruntime-gpu" if device == "cuda" else "pip install onnxruntime"
    if probe.onnxruntime is None:
        return Finding(level, "onnxruntime", "not installed for this Python", install)
    text = f"{probe.onnxruntime} ({', '.join(probe.onnxruntime_providers)})"
    if device == "cuda" and "CUDAExecutionProvider" not in probe.onnxruntime_providers:
        advice = f"pip uninstall onnxruntime, then {install}"
        return Finding(level, "onnxruntime", f"{text}: cannot run on the GPU", advice)
    return Finding(OK, "onnxruntime", text)


def _tensorrt(probe: Probe, level: str) -> Finding:
    oldest = ".".join(map(str, OLDEST))
    if probe.tensorrt is None:
        return _missing_tensorrt(probe, level)
    if numbers(probe.tensorrt) < OLDEST:
        advice = "install JetPack 6 or later" if probe.jetson_model else "pip install --upgrade tensorrt"
        return Finding(level, "tensorrt", f"{probe.tensorrt} is too old: wanted {oldest} or later", advice)
    if too_new := _too_new_for_driver(probe, "tensorrt", probe.tensorrt, probe.tensorrt_cuda, level):
        return too_new
    jetpack = _jetpack(probe)
    if jetpack is not None and not _is_of(probe.tensorrt, jetpack):
        text = f"{probe.tensorrt} is not the {jetpack.tensorrt} that JetPack {jetpack.name} comes with"
        advice = (
            "wheels from PyPI are for servers and need not know this GPU; if the build fails, pip uninstall tensorrt "
            "and use JetPack's"
        )
        return Finding(WARNING, "tensorrt", text, advice)
    return Finding(OK, "tensorrt", probe.tensorrt)


def _missing_tensorrt(probe: Probe, level: str) -> Finding:
    if probe.system_tensorrt is not None:
        jetpack = _jetpack(probe)
        python = f"python{jetpack.python}" if jetpack is not None else "python3"
        text = f"{probe.system_tensorrt} is installed by apt, but this Python ({probe.python}) does not see it"
        advice = (
            f"sudo apt install python3-libnvinfer, and run with the system's Python: {python} -m venv "
            "--system-site-packages ENV, then install stts-runtime there with its extra for the device's CUDA "
            "(tensorrt-cu12 on JetPack 6, tensorrt-cu13 on JetPack 7)"
        )
        return Finding(level, "tensorrt", text, advice)
    if probe.jetson_model is not None:
        return Finding(level, "tensorrt", "not installed", "sudo apt install nvidia-jetpack")
    install = "pip install tensorrt-cu12" if _cuda_major(probe) < 13 else "pip install tensorrt"
    return Finding(level, "tensorrt", "not installed", install)


def _tensorrt_rtx(probe: Probe, level: str) -> Finding:
    sm = probe.compute_capability
    if sm is not None and sm not in RTX_COMPUTE_CAPABILITIES:
        known = ", ".join(map(str, RTX_COMPUTE_CAPABILITIES))
        text = f"{probe.tensorrt_rtx or 'not installed'}: it knows SM {known}, and this GPU is SM {sm}"
        advice = "build the bundle again with `stts-export build --backend tensorrt`, for a target of this GPU"
        return Finding(level, "tensorrt-rtx", text, advice)
    if probe.tensorrt_rtx is None:
        return Finding(level, "tensorrt-rtx", "not installed", _rtx_install(probe))
    too_new = _too_new_for_driver(probe, "tensorrt-rtx", probe.tensorrt_rtx, probe.tensorrt_rtx_cuda, level)
    return too_new or Finding(OK, "tensorrt-rtx", probe.tensorrt_rtx)


def _rtx_install(probe: Probe) -> str:
    if _cuda_major(probe) >= 13:
        return "pip install tensorrt-rtx-cu13"
    older = ", or pip install tensorrt-rtx-cu12" if _cuda_major(probe) == 12 else ""
    return f"update the NVIDIA driver to {_CUDA_13_DRIVER}, then pip install tensorrt-rtx-cu13{older}"


def _too_new_for_driver(probe: Probe, topic: str, version: str, cuda: int | None, level: str) -> Finding | None:
    if cuda is None or probe.cuda is None or _cuda_major(probe) >= cuda:
        return None
    other = f", or pip install {topic}-cu12" if cuda == 13 else ""
    driver = f"driver {probe.driver}" if probe.driver else "the driver"
    branch = _CUDA_13_DRIVER if cuda == 13 else f"one that serves CUDA {cuda}"
    text = f"{version} is built for CUDA {cuda}, but {driver} serves CUDA up to {probe.cuda}"
    return Finding(level, topic, text, f"update the NVIDIA driver to {branch}{other}")


def _cuda_bindings(probe: Probe, level: str) -> Finding:
    major = _cuda_major(probe)
    install = install_command(major)
    if probe.cuda_bindings is None:
        return Finding(level, "cuda-bindings", "not installed", install)
    if probe.cuda is not None and numbers(probe.cuda_bindings)[:1] > (major,):
        text = f"{probe.cuda_bindings} is for a newer CUDA than the driver serves ({probe.cuda})"
        return Finding(level, "cuda-bindings", text, install)
    return Finding(OK, "cuda-bindings", probe.cuda_bindings)


def _cuda_major(probe: Probe) -> int:
    """Return the newest major version of CUDA that the driver serves; what is current if that cannot be told."""
    return 13 if probe.cuda is None else numbers(probe.cuda)[0]


def _jetpack(probe: Probe) -> JetPack | None:
    return None if probe.l4t is None else nearest_jetpack(probe.l4t)


def _is_of(version: str, jetpack: JetPack) -> bool:
    """Tell whether a version is one of a JetPack's, as exactly as its table says."""
    offered = (text for text in (jetpack.tensorrt, jetpack.tensorrt_extra) if text is not None)
    return any(numbers(version)[: len(numbers(text))] == numbers(text) for text in offered)
