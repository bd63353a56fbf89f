"""Which operators a build's graphs are made of, and every reason why they cannot be plugins."""

from dataclasses import replace

import pytest
from reference.elf_file import write_library
from reference.plugin_bundle import plugin_config

from stts_export.pipeline import ops
from stts_export.pipeline.ops import choose_ops
from stts_export.recipe.target import read_target
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.errors import EngineError, UsageError


@pytest.fixture(autouse=True)
def libraries(tmp_path, monkeypatch):
    """Libraries for both machines, which the environment names."""
    found = {
        machine: write_library(tmp_path / machine / "libstts_trt.so", machine) for machine in ("x86_64", "aarch64")
    }
    monkeypatch.setenv("STTS_TRT_LIBRARY", str(tmp_path))
    return found


CONFIG = plugin_config()


def chosen(asked=None, target="h100", packing=None, own="ragged", backend=None, precision="float16", config=CONFIG):
    target = read_target(target) if isinstance(target, str) else target
    engine = EngineSettings(backend or target.backends[0], "cuda", precision, prepack=False)
    return choose_ops(asked, packing, own, target, engine, config)


def test_graphs_are_portable_unless_plugins_are_asked_for():
    assert (chosen().ops, chosen("portable").ops) == ("portable", "portable")
    assert chosen(own="ffd").packing == "ffd"
    assert chosen(packing="ragged", own="ffd").packing == "ragged"
    assert chosen(target="cpu").libraries == {}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "plugin"),
        ({"target": "rtx"}, "plugin"),
        ({"target": "jetson-thor"}, "plugin"),
        ({"own": "none"}, "plugin"),
        ({"own": "ffd"}, "portable"),
        ({"own": "ffd", "packing": "ragged"}, "plugin"),
        ({"packing": "ffd"}, "portable"),
        ({"target": "cpu"}, "portable"),
        ({"backend": "onnxruntime"}, "portable"),
        ({"precision": "float32"}, "portable"),
        ({"target": "jetson-orin"}, "portable"),  # JetPack 6.0 is among its own
        ({"asked": "portable"}, "portable"),
    ],
    ids=str,
)
def test_where_plugins_are_preferred_they_are_taken_if_nothing_else_changes_by_them(monkeypatch, options, wanted):
    monkeypatch.setattr(ops, "PREFERRED", "plugin")
    assert chosen(**options).ops == wanted


def test_where_plugins_are_preferred_a_build_without_their_library_is_portable(monkeypatch, libraries):
    monkeypatch.setattr(ops, "PREFERRED", "plugin")
    libraries["x86_64"].unlink()
    assert (chosen().ops, chosen(target="jetson-thor").ops) == ("portable", "plugin")


def test_plugins_pack_end_to_end_and_bring_the_libraries_of_all_machines(libraries):
    made = chosen("plugin")
    assert (made.ops, made.packing, made.libraries, made.notes) == ("plugin", "ragged", libraries, ())
    assert chosen("plugin", packing="ragged").notes == ()


def test_a_model_that_is_packed_otherwise_says_so():
    made = chosen("plugin", own="ffd")
    assert made.packing == "ragged"
    assert "the model's own way is ffd" in made.notes[0]


def test_a_dense_bundle_may_have_plugins_and_packs_nothing():
    assert chosen("plugin", own="none").packing == "none"


def test_packing_in_bins_is_refused_with_the_reason():
    with pytest.raises(
        UsageError, match=r"--ops plugin: with --packing ffd several frames share a bin.*--packing ragged"
    ):
        chosen("plugin", packing="ffd")


@pytest.mark.parametrize(("target", "backend"), [("cpu", None), ("h100", "onnxruntime")])
def test_an_engine_that_is_not_tensorrts_is_refused(target, backend):
    with pytest.raises(UsageError, match=r"--ops plugin: the plugins are TensorRT's, and onnxruntime loads none"):
        chosen("plugin", target, backend=backend)


def test_full_precision_is_refused():
    with pytest.raises(UsageError, match=r"compute in half precision, and the build is in float32.*--ops portable"):
        chosen("plugin", precision="float32")


def test_heads_without_a_kernel_are_refused_before_anything_is_traced():
    narrow = replace(CONFIG, tower=replace(CONFIG.tower, heads=8))
    with pytest.raises(UsageError, match=r"the tower of toy-qwen3 has heads of 8, there are kernels for 16, 64"):
        chosen("plugin", config=narrow)
    odd = replace(CONFIG, decoder=replace(CONFIG.decoder, head_dim=40))
    with pytest.raises(UsageError, match=r"the decoder of toy-qwen3 has heads of 40"):
        chosen("plugin", config=odd)


def test_a_device_with_no_other_tensorrt_than_8_6_is_refused_by_its_name():
    old = replace(read_target("jetson-orin"), jetpacks=("6.0",))
    with pytest.raises(UsageError, match=r"--ops plugin: JetPack 6\.0 with TensorRT 8\.6\.2 loads no plugins"):
        chosen("plugin", old)


def test_a_device_that_may_have_it_is_told():
    (note,) = chosen("plugin", "jetson-orin").notes
    assert "TensorRT 10 or newer" in note
    assert "JetPack 6.0 with TensorRT 8.6.2 cannot run it" in note
    assert chosen("plugin", "jetson-thor").notes == ()


@pytest.mark.parametrize(("target", "machine"), [("jetson-orin", "aarch64"), ("h100", "x86_64"), ("rtx", "x86_64")])
def test_a_library_that_is_missing_is_told_with_the_ways_to_it(target, machine, libraries):
    libraries[machine].unlink()
    with pytest.raises(
        EngineError, match=rf"for {machine}, .*target {target}.*make plugins.*STTS_TRT_LIBRARY.*--ops port"
    ):
        chosen("plugin", target)
