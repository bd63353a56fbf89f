"""The inference engines that a bundle may name; one record each, and no import of any."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.errors import EngineError


@dataclass(frozen=True)
class Backend:
    """An inference engine."""

    name: str  # as manifests, targets and options say it, and of its Python module
    title: str  # of the product, for messages
    install: str  # how it is had where its module is missing
    needs_engines: bool = True  # whether it runs engines built from the graphs, rather than the graphs
    # whether engines are for the GPU they were built on, rather than built on any machine
    builds_on_device: bool = False


ONNXRUNTIME = Backend("onnxruntime", "onnxruntime", "pip install onnxruntime", needs_engines=False)
TENSORRT = Backend(
    "tensorrt",
    "TensorRT",
    "on a Jetson it comes with JetPack (sudo apt install nvidia-jetpack; a virtual environment needs "
    "--system-site-packages to see it), elsewhere: pip install tensorrt",
    builds_on_device=True,
)
TENSORRT_RTX = Backend(
    "tensorrt_rtx", "TensorRT-RTX", "pip install tensorrt-rtx-cu13, or tensorrt-rtx-cu12 with a driver older than 580"
)
BACKENDS = {backend.name: backend for backend in (ONNXRUNTIME, TENSORRT, TENSORRT_RTX)}


def backend_named(name: str) -> Backend:
    """Return the backend that a manifest or a target names.

    Raises:
        EngineError: it is none of ours.
    """
    if name not in BACKENDS:
        raise EngineError(
            f"the bundle wants engine {name!r}, which this runtime does not have (it has: {', '.join(BACKENDS)}); "
            "upgrade stts-runtime, or build the bundle again with --target cpu"
        )
    return BACKENDS[name]
