import pytest

from stts_runtime.device.libcuda import CudaDevice, CudaReading, read_libcuda


class FakeLibrary:
    """libcuda as it behaves for one GPU, or refusing in one function; notes what was called."""

    def __init__(self, refuses: str = "", code: int = 0, name_known: bool = True) -> None:
        self.refuses, self.code, self.name_known = refuses, code, name_known
        self.called: list[str] = []

    def __getattr__(self, function: str):
        if not function.startswith("cu"):
            raise AttributeError(function)

        def call(*arguments):
            self.called.append(function)
            if function == self.refuses:
                return self.code
            return getattr(self, f"_{function}", lambda *_: 0)(*arguments)

        return call

    def _cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060
        return 0

    def _cuDeviceGetName(self, name, length, device):  # noqa: N802
        name.value = b"Orin"
        return 0

    def _cuDeviceTotalMem_v2(self, size, device):  # noqa: N802
        size._obj.value = 62 << 30
        return 0

    def _cuDeviceGetPCIBusId(self, bus_id, length, device):  # noqa: N802
        bus_id.value = b"0000:01:00.0"
        return 0

    def _cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {18: 1, 75: 8, 76: 7}[attribute]
        return 0

    def _cuGetErrorName(self, code, name):  # noqa: N802
        if not self.name_known:
            return 1
        name._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


def test_the_first_gpu_is_described():
    assert read_libcuda(lambda name: FakeLibrary()) == CudaReading(
        loaded=True,
        driver_version=12060,
        error=None,
        device=CudaDevice("Orin", 87, 62 << 30, integrated=True, bus_id="0000:01:00.0"),
    )


def test_no_context_is_made():
    library = FakeLibrary()
    read_libcuda(lambda name: library)
    assert not [function for function in library.called if "Ctx" in function or "Alloc" in function]


def test_without_the_library_there_is_nothing_to_say():
    def missing(name):
        raise OSError(name)

    assert read_libcuda(missing) == CudaReading(loaded=False)


@pytest.mark.parametrize("function", ["cuInit", "cuDeviceGet", "cuDeviceGetAttribute"])
def test_what_the_library_refuses_with_is_kept_by_name(function):
    reading = read_libcuda(lambda name: FakeLibrary(function, 100))
    assert reading == CudaReading(True, 12060, "CUDA_ERROR_NO_DEVICE (100)", None)


def test_an_error_without_a_name_keeps_its_number():
    reading = read_libcuda(lambda name: FakeLibrary("cuInit", 4711, name_known=False))
    assert reading.error == "CUDA error (4711)"


def test_a_driver_that_does_not_know_its_version_says_the_rest():
    reading = read_libcuda(lambda name: FakeLibrary("cuDriverGetVersion", 1))
    assert reading.driver_version is None
    assert reading.device is not None


def test_the_real_loader_is_the_default_and_tells_a_missing_library():
    reading = read_libcuda()
    assert isinstance(reading, CudaReading)
    assert reading.loaded or reading.device is None
