"""Which operators a build's graphs are made of, and every reason why they cannot be plugins."""

import re
from dataclasses import replace

import pytest
from reference.elf_file import write_library, write_page
from reference.plugin_bundle import plugin_config

from stts_export.pipeline.ops import choose_ops
from stts_export.recipe.read import read_model_recipe
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


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"asked": "portable"}, ""),
        ({"asked": "portable", "own": "ffd"}, ""),
        ({"target": "cpu"}, ""),
        ({"backend": "onnxruntime"}, ""),
        ({"own": "ffd"}, "the model's own packing is ffd.*: --ops plugin takes them all the same"),
        ({"packing": "ffd"}, "with --packing ffd several frames share a bin.*: take --packing ragged"),
        ({"precision": "float32"}, "the build is in float32: take --precision float16 or bfloat16"),
        ({"target": "jetson-orin"}, r"JetPack 6\.0 with TensorRT 8\.6\.2 could not run them: --ops plugin takes"),
    ],
    ids=str,
)
def test_graphs_are_portable_where_plugins_cannot_be_or_something_else_would_change_by_them(options, note):
    made = chosen(**options)
    assert (made.ops, made.packing) == ("portable", options.get("packing") or options.get("own", "ragged"))
    assert made.libraries == {}
    assert len(made.notes) == bool(note)
    assert not note or re.match(f"without TensorRT plugins: .*{note}", made.notes[0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "rtx"},
        {"target": "jetson-thor"},
        {"precision": "bfloat16"},
        {"own": "none"},
        {"own": "ffd", "packing": "ragged"},
    ],
    ids=str,
)
def test_everywhere_else_plugins_are_taken_unasked(options, libraries):
    made = chosen(**options)
    assert (made.ops, made.libraries, made.notes) == ("plugin", libraries, ())
    assert made.packing == ("none" if options.get("own") == "none" else "ragged")


@pytest.mark.parametrize("model", ["qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"])
def test_frames_of_any_sides_whose_patches_are_turned_by_their_places_have_plugins_unasked(model):
    recipe = read_model_recipe(model)
    made = chosen(own=recipe.packing, config=recipe.config)
    assert (made.ops, made.packing, made.notes) == ("plugin", "ragged", ())


def test_unasked_a_library_that_is_missing_is_told_with_the_ways_to_it_and_the_build_goes_on(libraries):
    libraries["x86_64"].unlink()
    made = chosen()
    assert (made.ops, made.packing) == ("portable", "ragged")
    assert re.search(r"for x86_64, .*h100, and there is one for aarch64: `make plugins`.*STTS_TRT_L", made.notes[0])
    assert chosen(target="jetson-thor").ops == "plugin"


def test_unasked_a_library_that_the_environment_names_in_vain_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("STTS_TRT_LIBRARY", str(tmp_path / "none"))
    with pytest.raises(EngineError, match=r"STTS_TRT_LIBRARY is .*none', where no libstts_trt\.so lies"):
        chosen()
    assert chosen("portable").ops == "portable"


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


def test_a_library_without_kernels_for_the_targets_gpu_is_no_library_for_it(libraries):
    write_page(libraries["x86_64"], sms=(86, 120))
    assert chosen(target="rtx").ops == chosen(target="l4").ops == "plugin"  # what is for SM 86 runs on 89
    assert "has kernels for SM 86, 120, none for 90: `make plugins`" in chosen().notes[0]
    with pytest.raises(EngineError, match=r"--ops plugin: they want .* none for 90: `make plugins` .*SMS=90"):
        chosen("plugin")
