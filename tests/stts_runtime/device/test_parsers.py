"""What each source of a probe is read as."""

import pytest

from stts_runtime.device.jetson import jetson_model, l4t_release, power_mode
from stts_runtime.device.memory import free_swap_bytes, memory_bytes
from stts_runtime.device.nvidia import SmiGpu, smi_gpu_at, smi_gpus
from stts_runtime.device.packages import onnxruntime_providers, system_tensorrt, version_of


def test_a_jetsons_model_ends_in_nul():
    assert jetson_model("NVIDIA Jetson AGX Orin Developer Kit\0") == "NVIDIA Jetson AGX Orin Developer Kit"


@pytest.mark.parametrize("text", [None, "", "\0", "Raspberry Pi 5 Model B Rev 1.0\0"])
def test_other_boards_are_no_jetsons(text):
    assert jetson_model(text) is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n", "36.4.3"),
        ("# R38 (release), REVISION: 2.1, GCID: 41844464\n# KERNEL_VARIANT: oot\n", "38.2.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 45755727", "39.2.0"),
        ("# R36 (release), REVISION: 5", "36.5"),
        ("# R36 (rel", None),
        ("", None),
        (None, None),
    ],
)
def test_the_l4t_release_is_in_the_first_line(text, release):
    assert l4t_release(text) == release


def test_the_power_mode_follows_its_title():
    assert power_mode("NV Power Mode: MAXN_SUPER\n2\n") == "MAXN_SUPER"
    assert power_mode("NV Fan Mode:quiet\nNV Power Mode: 15W\n0\n") == "15W"
    assert power_mode("NVPM ERROR: not supported") is None
    assert power_mode(None) is None


def test_meminfo_counts_in_kib():
    text = "MemTotal:        7802064 kB\nMemAvailable:    5621088 kB\n"
    assert memory_bytes(text, "MemTotal") == 7802064 * 1024
    assert memory_bytes(text, "MemAvailable") == 5621088 * 1024
    assert memory_bytes(text, "MemFree") is None
    assert memory_bytes(None, "MemTotal") is None


def test_swap_is_what_is_free_on_disks():
    text = "Filename Type Size Used Priority\n/dev/zram0 partition 650168 0 5\n/swapfile file 8388604 1048576 -2\n"
    assert free_swap_bytes(text) == (8388604 - 1048576) * 1024
    assert free_swap_bytes("Filename Type Size Used Priority\n") == 0
    assert free_swap_bytes(None) is None


def test_nvidia_smi_lists_a_gpu_a_line():
    text = "NVIDIA L4, 8.9, 23034, 22565, 570.172.08, 00000000:00:03.0\nNVIDIA Thor, 11.0, [N/A], [N/A], 580.00, 0:1\n"
    assert smi_gpus(text) == (
        SmiGpu("NVIDIA L4", 89, 23034 << 20, 22565 << 20, "570.172.08", "00000000:00:03.0"),
        SmiGpu("NVIDIA Thor", 110, None, None, "580.00", "0:1"),
    )


def test_what_nvidia_smi_does_not_know_is_none():
    (orin,) = smi_gpus("Orin (nvgpu), [N/A], [Not Supported], N/A, 540.4.0, [N/A]\n")
    assert orin == SmiGpu("Orin (nvgpu)", None, None, None, "540.4.0", None)


@pytest.mark.parametrize("text", [None, "", "NVIDIA-SMI has failed because it couldn't communicate with the driver.\n"])
def test_an_answer_that_is_none_lists_nothing(text):
    assert smi_gpus(text) == ()


def test_the_gpu_is_the_one_at_cudas_place_on_the_bus():
    gpus = smi_gpus("A, 8.0, 1, 1, 1, 00000000:19:00.0\nB, 8.0, 1, 1, 1, 00000000:3B:00.0\n")
    assert smi_gpu_at(gpus, "0000:3b:00.0").name == "B"
    assert smi_gpu_at(gpus, None).name == "A"
    assert smi_gpu_at(gpus, "0000:77:00.0").name == "A"
    assert smi_gpu_at((), "0000:3b:00.0") is None


@pytest.mark.parametrize(
    ("distributions", "answer", "found"),
    [
        ({"tensorrt": "10.3.0"}, None, ("10.3.0", None)),
        ({"tensorrt": "10.13.3.9", "tensorrt-cu12": "10.13.3.9"}, None, ("10.13.3.9", 12)),
        ({"tensorrt-cu13": "10.16.1"}, None, ("10.16.1", 13)),
        ({"tensorrt-rtx-cu13": "1.7.1.116"}, None, (None, None)),
        ({}, "10.13.0.35\n", ("10.13.0.35", None)),
        ({}, None, (None, None)),
    ],
)
def test_a_version_comes_from_the_metadata_of_a_wheel_or_from_the_module(distributions, answer, found):
    assert version_of("tensorrt", distributions, answer) == found


def test_rtx_is_found_under_its_own_name():
    assert version_of("tensorrt_rtx", {"tensorrt-rtx-cu13": "1.7.1.116"}, None) == ("1.7.1.116", 13)


def test_apts_tensorrt_is_the_version_of_its_library():
    text = "libnvinfer-bin\t10.3.0.30-1+cuda12.5\nlibnvinfer10\t10.3.0.30-1+cuda12.5\npython3-libnvinfer\t10.3.0.30-1\n"
    assert system_tensorrt(text) == "10.3.0.30"
    assert system_tensorrt("libnvinfer8:arm64\t8.6.2.3-1+cuda12.2\n") == "8.6.2.3"
    assert system_tensorrt("libnvinfer10\t\n") is None
    assert system_tensorrt(None) is None


def test_onnxruntimes_providers_are_the_libraries_beside_it():
    libraries = ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so")
    assert onnxruntime_providers({"onnxruntime-gpu": "1.23.0"}, libraries) == (
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    )
    assert onnxruntime_providers({"onnxruntime": "1.23.0"}, ()) == ("CPUExecutionProvider",)
    assert onnxruntime_providers({}, libraries) == ()
