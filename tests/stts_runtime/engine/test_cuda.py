"""The layer over CUDA's bindings, played and real: what is called exists, and every refusal says what to do."""

import sys
from types import ModuleType

import pytest
from reference import fake_trt_runtime as fake
from reference.fake_cuda import FakeCuda
from reference.fake_gpu import fake_gpu

from stts_runtime.engine.cuda import Cuda, open_cuda
from stts_runtime.errors import EngineError


OF_8_6_0 = {  # the calls of its runtime that the fake has, from dir() of the 8.6.0 wheel
    "Runtime": {"deserialize_cuda_engine"},
    "ICudaEngine": {
        "create_execution_context_without_device_memory",
        "device_memory_size",
        "get_tensor_dtype",
        "get_tensor_location",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    },
    "IExecutionContext": {
        "device_memory",
        "execute_async_v3",
        "get_tensor_shape",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    },
}


def calls_of(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_played_cuda_has_nothing_that_the_bindings_lack():
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    played = {name for name in dir(FakeCuda) if name.startswith("cuda")}
    assert played <= set(dir(runtime))
    for kind in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        for member in getattr(FakeCuda, kind):
            assert int(getattr(getattr(runtime, kind), member.name)) == int(member), member
    assert runtime.cudaStreamNonBlocking == FakeCuda.cudaStreamNonBlocking
    assert runtime.cudaEventDisableTiming == FakeCuda.cudaEventDisableTiming


def test_the_played_rtx_has_nothing_that_tensorrt_rtx_lacks():
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert calls_of(fake.EngineRtx) <= calls_of(rtx.ICudaEngine)
    assert calls_of(fake.Context11) <= calls_of(rtx.IExecutionContext)
    assert calls_of(fake.Runtime) <= calls_of(rtx.Runtime)
    for kind in ("TensorIOMode", "TensorLocation", "CudaGraphStrategy", "ExecutionContextAllocationStrategy"):
        for member in getattr(fake, kind):
            assert int(getattr(getattr(rtx, kind), member.name)) == int(member), member
    config = calls_of(fake.RuntimeConfig) | {"cuda_graph_strategy"}
    assert config <= calls_of(rtx.IRuntimeConfig)
    assert {member.name for member in fake.DataType} <= calls_of(rtx.DataType)


def test_the_played_8_6_has_nothing_that_8_6_lacks():
    assert calls_of(fake.Engine86) == OF_8_6_0["ICudaEngine"]
    assert calls_of(fake.Context86) == OF_8_6_0["IExecutionContext"]
    assert calls_of(fake.Runtime) == OF_8_6_0["Runtime"]


def test_without_bindings_it_is_said_what_to_install(monkeypatch):
    for name in ("cuda", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    with pytest.raises(EngineError, match=r'cannot be imported.*"cuda-bindings==12\.\*" on JetPack 6, .*==13'):
        open_cuda()


def test_the_older_layout_of_cuda_python_is_found_too(monkeypatch):
    device = FakeCuda(capability=110)
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "cuda.cudart", device)
    assert open_cuda().compute_capability == 110


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("cudaErrorNoDevice", r"cudaGetDevice failed: cudaErrorNoDevice \(.*\). No GPU can be seen.*CUDA_VISIBLE"),
        ("cudaErrorIllegalAddress", r"cudaErrorIllegalAddress \(an illegal memory access was encountered\)."),
    ],
)
def test_an_error_has_cudas_name_and_text_and_advice_where_there_is_some(error, message):
    device = FakeCuda()
    device.cudaGetDevice = lambda: (device.cudaError_t[error], None)
    with pytest.raises(EngineError, match=message):
        Cuda(device)


def test_an_error_is_not_reported_a_second_time(monkeypatch):
    gpu = fake_gpu(monkeypatch, total=1 << 20)
    cuda = open_cuda()
    stream = cuda.new_stream()
    with pytest.raises(EngineError, match="no room for 2 MiB more: 1 MiB of 1 MiB are free"):
        cuda.allocate(2 << 20, stream)
    assert gpu.cuda.cudaGetLastError() == (0,)
    cuda.end_stream(stream)
    assert gpu.cuda.left() == {}
