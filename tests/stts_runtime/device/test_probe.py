from dataclasses import replace

import pytest
from reference.device_bundle import probe_of, readings_of

from stts_runtime.device.libcuda import CudaReading
from stts_runtime.device.probe import probe_from_readings


EXPECTED = {
    "agx_orin_jp62": ("Orin", 87, True, "36.4.3", "12.6", "540.4.0", "10.3.0", None),
    "agx_orin_jp72": ("Orin", 87, True, "39.2.0", "13.2", "595.78", "10.16.2.10", None),
    "orin_nano_jp62": ("Orin", 87, True, "36.4.3", "12.6", "540.4.0", None, None),
    "thor_jp71": ("NVIDIA Thor", 110, True, "38.4.0", "13.0", "580.00", "10.13.3.9", None),
    "l4": ("NVIDIA L4", 89, False, None, "12.8", "570.172.08", "10.13.3.9", None),
    "h100": ("NVIDIA H100 80GB HBM3", 90, False, None, "13.0", "580.95.05", "10.16.1.11", None),
    "laptop_rtx_4070": ("NVIDIA GeForce RTX 4070 Laptop GPU", 89, False, None, "13.0", "580.95.05", None, "1.7.1.116"),
    "no_gpu": (None, None, False, None, None, None, None, None),
}


@pytest.mark.parametrize("device", EXPECTED)
def test_a_recorded_device_is_known(device):
    probe = probe_of(device)
    assert EXPECTED[device] == (
        probe.gpu_name,
        probe.compute_capability,
        probe.shared_memory,
        probe.l4t,
        probe.cuda,
        probe.driver,
        probe.tensorrt,
        probe.tensorrt_rtx,
    )


def test_a_jetsons_gpu_has_the_memory_of_its_cpu():
    probe = probe_of("orin_nano_jp62")
    assert probe.gpu_memory_bytes == probe.total_memory_bytes == 7802064 * 1024
    assert probe.free_gpu_memory_bytes == probe.free_memory_bytes == 5621088 * 1024


def test_swap_on_a_disk_counts_and_zram_does_not():
    assert probe_of("laptop_rtx_4070").free_swap_bytes == 8388604 * 1024
    assert probe_of("orin_nano_jp62").free_swap_bytes == 0


def test_free_memory_is_that_of_the_gpu_that_cuda_shows():
    probe = probe_of("h100")
    assert probe.free_gpu_memory_bytes == 1204 << 20


def test_apts_tensorrt_is_told_from_the_one_this_python_sees():
    probe = probe_of("orin_nano_jp62")
    assert (probe.tensorrt, probe.system_tensorrt) == (None, "10.3.0.30")


def test_without_libcuda_nvidia_smi_still_names_the_gpu():
    probe = probe_from_readings(replace(readings_of("l4"), libcuda=CudaReading(loaded=False)))
    assert (probe.gpu_name, probe.compute_capability, probe.gpu_memory_bytes) == ("NVIDIA L4", 89, 23034 << 20)
    assert probe.cuda is None


def test_a_slice_of_a_gpu_is_no_freer_than_it_is_large():
    device = readings_of("l4").libcuda.device
    sliced = CudaReading(True, 13000, None, replace(device, memory_bytes=10 << 30))
    probe = probe_from_readings(replace(readings_of("l4"), libcuda=sliced))
    assert probe.gpu_memory_bytes == probe.free_gpu_memory_bytes == 10 << 30
