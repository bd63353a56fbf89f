"""What `doctor` says of a bundle's plugins, on recorded devices: each reason why they would not run, before they do."""

import pytest
from reference.device_bundle import probe_of
from reference.elf_file import write_library
from reference.engine_bundle import write_plugin_bundle

from stts_runtime.bundle import plugin_library
from stts_runtime.bundle.open import open_bundle
from stts_runtime.device.doctor import check, check_device
from stts_runtime.device.plugins import library_finding, plugin_findings
from stts_runtime.errors import EngineError
from stts_runtime.vision import host_plan


LAPTOP = {"tensorrt_rtx": "1.7.1", "tensorrt_rtx_cuda": 13, "glibc": "2.39", "compute_capability": 86, "cuda": "13.0"}


def said(tmp_path, library=None, **device):
    """What is found on an RTX laptop, as (level, text, advice)."""
    bundle = open_bundle(write_plugin_bundle(tmp_path / "toy.stts", "tensorrt_rtx", **(library or {})))
    probe = probe_of("laptop_rtx_4070", **{**LAPTOP, **device})
    return [(found.level, found.text, found.advice) for found in plugin_findings(probe, bundle)]


def test_plugins_that_run_are_told_with_contract_and_gpus(tmp_path):
    assert said(tmp_path) == [("ok", "contract 2, kernels for SM 86, 120", "")]


@pytest.mark.parametrize(
    ("library", "device", "text", "advice"),
    [
        ({"machine": "aarch64"}, {}, "carries its plugins for aarch64, and this machine is x86_64", "make plugins"),
        ({"versions": ("GLIBC_2.40",)}, {}, "needs glibc 2.40 or newer, and this system has 2.39", "--ops portable"),
        ({}, {"glibc": ""}, "needs glibc 2.17 or newer, and this system has none", "--ops portable"),
        ({"page": {"contract": 3}}, {}, "implements contract 3 of the plugins", "--ops portable"),
        ({"page": {"sms": (87, 110)}}, {}, "kernels for SM 87, 110, and this GPU is SM 86", "make plugins SMS=86"),
        (
            {},
            {"compute_capability": 120, "cuda": "12.6"},
            "compiled by CUDA 13, and the driver serves CUDA up to 12.6",
            "driver",
        ),
    ],
    ids=["machine", "glibc", "no glibc", "contract", "SM", "driver"],
)
def test_what_keeps_them_from_running_is_a_problem_with_its_advice(tmp_path, library, device, text, advice):
    ((level, found, advised),) = said(tmp_path, library, **device)
    assert level == "problem"
    assert text in found
    assert advice in advised


def test_a_c_library_that_a_recording_does_not_tell_is_not_held_against_it(tmp_path):
    assert said(tmp_path, {"versions": ("GLIBC_2.40",)}, glibc=None)[0][0] == "ok"


def test_a_library_without_a_page_is_a_warning(tmp_path):
    ((level, text, _),) = said(tmp_path, {"page": {"sha256": "0" * 64}})
    assert (level, "no page that says for which GPUs" in text) == ("warning", True)


def test_a_tensorrt_that_was_not_tried_is_told(tmp_path):
    (fine, (level, text, advice)) = said(tmp_path, tensorrt_rtx="2.0.3")
    assert (fine[0], level) == ("ok", "warning")
    assert "tried with TensorRT-RTX 1.7 and no other, and TensorRT-RTX 2.0.3 is here, newer than it" in text
    assert "stts-runtime verify" in advice


def test_an_old_tensorrt_is_named_and_others_are_set_beside_the_headers(tmp_path):
    bundle = open_bundle(write_plugin_bundle(tmp_path / "toy.stts", "tensorrt"))
    old = list(plugin_findings(probe_of("h100", tensorrt="8.6.2", glibc="2.39"), bundle))
    assert [(one.level, "TensorRT 8.6.2 cannot load plugins" in one.text) for one in old] == [("problem", True)]
    for version, age in (("10.13.2", "older than"), ("10.14.0", "as new as"), ("11.4.0", "newer than")):
        new = list(plugin_findings(probe_of("h100", tensorrt=version, glibc="2.39", compute_capability=86), bundle))
        assert [one.level for one in new] == ["ok", "warning"]
        assert f"TensorRT {version} is here, {age} 10.14.1, whose headers the library was compiled" in new[1].text


def test_loading_is_refused_with_the_reason_and_a_portable_bundle_is_asked_nothing(tmp_path):
    bundle = open_bundle(write_plugin_bundle(tmp_path / "toy.stts", "tensorrt_rtx", versions=("GLIBC_2.40",)))
    probe = probe_of("laptop_rtx_4070", **LAPTOP)
    assert "plugins" in [found.topic for found in check(probe, bundle)]
    with pytest.raises(EngineError, match=r"plugins: .*needs glibc 2\.40(.|\n)*--ops portable"):
        check_device(bundle, probe)


def test_the_libraries_of_this_installation_are_told_and_how_to_get_them_where_there_are_none(tmp_path, monkeypatch):
    for name in ("WITH_THE_PACKAGE", "IN_A_CHECKOUT"):
        monkeypatch.setattr(plugin_library, name, tmp_path / name)
    monkeypatch.setattr(host_plan, "host_call", lambda: None)
    none = library_finding()
    assert (none.level, none.text) == ("ok", "no libstts_trt.so here, so builds have none; plans are made by numpy")
    assert all(way in none.advice for way in ("`make plugins`", "`make runtime-wheel`", "STTS_TRT_LIBRARY"))
    library = write_library(tmp_path / "WITH_THE_PACKAGE" / "x86_64" / "libstts_trt.so")
    monkeypatch.setattr(host_plan, "host_call", lambda: print)
    assert library_finding().text == f"libstts_trt.so for x86_64 ({library}); plans are made by libstts_host.so"
    monkeypatch.setenv("STTS_TRT_LIBRARY", str(tmp_path / "nowhere"))
    assert (library_finding().level, "no libstts_trt.so lies" in library_finding().text) == ("warning", True)
