"""Who is asked: CUDA and TensorRT as tests play them, and the real ones, where they are."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.fake_cuda import FakeCuda
from reference.fake_tensorrt import fake_tensorrt as fake_builder
from reference.fake_trt_runtime import VERSIONS, engine_bytes, fake_tensorrt as fake_runtime, profiles_of_spec

from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.engine.cuda import Cuda, open_cuda
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import Bindings, import_bindings
from stts_runtime.trt.engine_file import EngineRequest, build_engine
from stts_runtime.trt.messages import Messages, collecting_logger


REAL = [name for name in ("tensorrt", "tensorrt_rtx") if find_spec(name)]
try:
    open_cuda()
    NO_GPU = ""
except EngineError as error:
    NO_GPU = str(error)
PLAYED_BUILDERS = ("8.6.0", "10.3.0", "10.13.2.6", "11.4.1.5")


@dataclass
class Device:
    """A device, a stream, and bytes brought there and back."""

    cuda: Cuda
    stream: Any
    held: list[int] = field(default_factory=list)
    locked: list[int] = field(default_factory=list)

    def room(self, size: int) -> int:
        """Return the address of new memory."""
        self.held.append(self.cuda.allocate(size, self.stream))
        return self.held[-1]

    def host(self, size: int) -> np.ndarray:
        """Return new page-locked memory."""
        self.locked.append(self.cuda.allocate_host(max(1, size)))
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.locked[-1]), np.uint8)

    def given(self, array: np.ndarray) -> int:
        """Return where a copy of `array` will lie."""
        staged, there = self.host(array.nbytes), self.room(max(1, array.nbytes))
        staged[:] = np.frombuffer(array.tobytes(), np.uint8)
        if array.nbytes:
            self.cuda.to_device(there, staged.ctypes.data, array.nbytes, self.stream)
        return there

    def read(self, address: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
        """Return what lies at `address` once all is done that was asked for."""
        array = np.empty(shape, dtype)
        self.cuda.to_host(array.ctypes.data, address, array.nbytes, self.stream)
        self.cuda.synchronize(self.stream)
        return array

    def close(self) -> None:
        """Give everything back."""
        for address in self.held:
            self.cuda.free(address, self.stream)
        self.cuda.synchronize(self.stream)
        for address in self.locked:
            self.cuda.free_host(address)
        self.cuda.end_stream(self.stream)


@pytest.fixture(params=["played", "played without pools", *([] if NO_GPU else ["real"])])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Each CUDA there is."""
    played = FakeCuda(pools=request.param == "played")
    cuda = open_cuda() if request.param == "real" else Cuda(played)
    device = Device(cuda, cuda.new_stream())
    yield device
    device.close()
    assert played.left() == {}


@dataclass
class Runtime:
    """A TensorRT that runs engines."""

    bindings: Bindings
    device: Device
    folder: Path
    messages: Messages = field(default_factory=Messages)

    def __post_init__(self) -> None:
        self.logger = collecting_logger(self.bindings.module, self.messages, verbose=False)
        self.runtime = self.bindings.module.Runtime(self.logger)

    def engine(self, spec: GraphSpec, graph: Path) -> Any:
        """Return an engine of an ONNX file."""
        if isinstance(self.device.cuda._api, FakeCuda):
            content = engine_bytes(spec, str(graph), profiles_of_spec(spec), self.bindings.version)
        else:
            file = self.folder / "part.engine"
            sm = (self.device.cuda.compute_capability,)
            build_engine(EngineRequest(self.bindings.backend, str(graph), spec, "float32", sm, str(file)))
            content = file.read_bytes()
        return self.runtime.deserialize_cuda_engine(content)


@pytest.fixture(params=[*VERSIONS, *([] if NO_GPU else REAL)])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """Each TensorRT that can run engines: played ones by their version, real ones by their name."""
    version = request.param
    if version in REAL:
        bindings, cuda = import_bindings(version), open_cuda()
    else:
        played = FakeCuda()
        bindings, cuda = Bindings(VERSIONS[version], fake_runtime(version, played), version), Cuda(played)
    device = Device(cuda, cuda.new_stream())
    yield Runtime(bindings, device, tmp_path)
    device.close()


@pytest.fixture(params=[*PLAYED_BUILDERS, *(name for name in REAL if not NO_GPU or name == "tensorrt_rtx")])
def builds(request: pytest.FixtureRequest) -> Bindings:
    """Each TensorRT that can build engines; TensorRT-RTX needs no GPU for it."""
    if request.param in REAL:
        return import_bindings(request.param)
    return Bindings("tensorrt", fake_builder(request.param), request.param)


@pytest.fixture(scope="session")
def no_gpu() -> str:
    """Why no real GPU is asked; empty where one is."""
    return NO_GPU
