"""Targets as data: every shipped one loads, and impossible ones are refused."""

import re

import pytest

from stts_export.errors import RecipeError
from stts_export.recipe.find import recipe_names
from stts_export.recipe.target import all_targets, read_target
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.target import Target
from stts_runtime.device.jetpack import JETPACKS


NAMES = recipe_names("targets")
WANTED = {
    "jetson-orin": (87, 42.6, 204.8, 64),
    "jetson-orin-32": (87, 26.7, 204.8, 32),
    "jetson-orin-nx": (87, 15.0, 102.4, 16),
    "jetson-orin-nx-super": (87, 19.2, 102.4, 16),
    "jetson-orin-nano": (87, 10.2, 68.0, 8),
    "jetson-orin-nano-super": (87, 16.7, 102.0, 8),
    "jetson-thor": (110, 258.0, 273.0, 128),
    "l4": (89, 121.0, 300.0, 24),
    "a100": (80, 312.0, 2039.0, 80),
    "h100": (90, 989.0, 3350.0, 80),
    "b200": (100, 2250.0, 8000.0, 180),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_target_loads_under_its_name_and_goes_into_a_manifest(name):
    target = read_target(name)
    assert target.name == name
    assert from_plain(Target, to_plain(target), "manifest.json") == target


def test_the_table_of_targets_is_whole():
    found = {
        target.name: (
            target.compute_capabilities[0],
            target.peak_tflops.float16,
            target.bandwidth_gb_per_s,
            target.memory_gib,
        )
        for target in all_targets()
        if target.name not in ("cpu", "rtx")
    }
    assert found == WANTED
    assert set(NAMES) == {*WANTED, "cpu", "rtx"}


def test_orins_peak_in_float32_is_an_eighth_and_it_has_no_float8():
    for target in all_targets():
        if target.compute_capabilities == (87,):
            assert target.peak_tflops.float32 == pytest.approx(target.peak_tflops.float16 / 8, rel=0.01)
            assert target.peak_tflops.float8 is target.peak_tflops.float4 is None


def test_jetsons_name_every_jetpack_for_their_module_and_super_modes_need_6_2():
    for target in all_targets():
        if target.name.startswith("jetson"):
            module = "Thor" if "thor" in target.name else "Orin"
            names = [jetpack.name for jetpack in JETPACKS if module in jetpack.modules]
            assert list(target.jetpacks) == [name for name in names if "super" not in target.name or name != "6.0"]
        else:
            assert target.jetpacks == ()


def test_rtx_leaves_to_the_card_what_differs():
    rtx = read_target("rtx")
    assert (rtx.memory_gib, rtx.bandwidth_gb_per_s, rtx.peak_tflops.float16) == (None, None, None)
    assert (rtx.backends, rtx.compute_capabilities) == (("tensorrt_rtx",), (86, 89, 120))


def test_an_unknown_target_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe named 'jetson-orn' in targets\. Did you mean jetson-orin\?"):
        read_target("jetson-orn")


TARGET = """
name = "mine"
title = "a card"
backends = ["tensorrt"]
precisions = ["float16"]
compute_capabilities = [87]
shared_memory = true
jetpacks = ["7.2"]
max_frames = 64
source = "made up"
memory_gib = 8

[peak_tflops]
float16 = 10
"""


def read_changed(folder, old, new):
    path = folder / "mine.toml"
    assert old in TARGET
    path.write_text(TARGET.replace(old, new))
    return read_target(path)


def test_a_target_of_ones_own_is_read_from_a_file(tmp_path):
    assert read_changed(tmp_path, "memory_gib = 8", "memory_gib = 16").memory_gib == 16.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '["tensorrt"]',
            '["tensort"]',
            "backends is 'tensort'; wanted one of onnxruntime, tensorrt, tensorrt_rtx (did",
        ),
        ('["tensorrt"]', "[]", "backends is (); wanted at least one of onnxruntime"),
        ('["tensorrt"]', '["tensorrt", "tensorrt"]', "wanted each name once"),
        ('["float16"]', '["half"]', "precisions is 'half'; wanted one of float32, float16, bfloat16"),
        ('["float16"]', "[]", "precisions is (); wanted at least one of float32"),
        ("[87]", "[]", "compute_capabilities is (); wanted at least one SM, such as 87, which tensorrt builds for"),
        ("[87]", "[8]", "compute_capabilities is (8,); wanted SM versions such as 87 for 8.7"),
        ("[87]", "[87, 87]", "wanted each SM once"),
        ('["7.2"]', '["7.3"]', "jetpacks is '7.3'; wanted one of 6.0"),
        ("max_frames = 64", "max_frames = 0", "max_frames is 0; wanted a number above 0"),
        ("memory_gib = 8", "memory_gib = -8", "memory_gib is -8.0; wanted a number above 0"),
        ("memory_gib = 8", "bandwidth_gb_per_s = 0", "bandwidth_gb_per_s is 0.0; wanted a number above 0"),
        ("memory_gib = 8", "memory_gib = nan", "memory_gib: wanted a number or nothing (null), got nan"),
        ("memory_gib = 8", "max_tokens = 0", "max_tokens is 0; wanted a number above 0"),
        ("float16 = 10", "float16 = -1", "peak_tflops.float16 is -1.0; wanted a number above 0"),
        ("float16 = 10", "fp16 = 10", "peak_tflops.fp16: unknown key; did you mean 'float16'?"),
        ("memory_gib = 8", "memory = 8", "memory: unknown key; did you mean 'memory_gib'?"),
    ],
)
def test_impossible_targets_are_refused_with_key_value_and_wish(tmp_path, old, new, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_changed(tmp_path, old, new)
