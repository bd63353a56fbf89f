"""Where the library of plugins is found, and every reason why it cannot be loaded here."""

import os
import platform
from dataclasses import replace

import pytest
from reference.elf_file import write_library, write_page
from reference.engine_bundle import seal, write_engine_bundle
from reference.toy_manifest import TOY_TARGET

from stts_runtime.bundle import plugin_library
from stts_runtime.bundle.digest import digest_of
from stts_runtime.bundle.engine_set import manifest_digest
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import to_plain
from stts_runtime.bundle.plugin_library import (
    file_for,
    found_libraries,
    glibc_here,
    library_of,
    machine_of,
    machines_of,
)
from stts_runtime.bundle.plugin_page import PluginPage, read_page
from stts_runtime.errors import BundleError, EngineError


@pytest.fixture(autouse=True)
def on_a_pc(monkeypatch, tmp_path):
    """An x86-64 machine with a C library of its own, and no library of plugins anywhere."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.31", raising=False)
    monkeypatch.delenv("STTS_TRT_LIBRARY", raising=False)
    for place in ("WITH_THE_PACKAGE", "IN_A_CHECKOUT"):
        monkeypatch.setattr(plugin_library, place, tmp_path / place)


@pytest.fixture
def bundle(tmp_path):
    """Return a function that makes a bundle with plugins, and these machines' libraries."""

    def made(*machines):
        root = write_engine_bundle(tmp_path / "toy.stts")
        for machine in machines:
            write_library(root / file_for(machine), machine)
        manifest = open_bundle(root).manifest
        pruning = replace(manifest.pruning, packing="ragged")
        seal(root, replace(manifest, pruning=pruning, engine=replace(manifest.engine, ops="plugin")))
        return open_bundle(root)

    return made


def test_a_bundle_gives_the_library_of_this_machine(bundle):
    made = bundle("aarch64", "x86_64")
    assert machines_of(made.manifest) == ("aarch64", "x86_64")
    assert library_of(made) == made.path / "plugins/x86_64/libstts_trt.so"


def test_a_bundle_without_the_library_of_this_machine_says_which_it_has_and_what_to_do(bundle):
    with pytest.raises(EngineError, match=r"for aarch64, and this machine is x86_64: .*make plugins.*--ops portable"):
        library_of(bundle("aarch64"))


def test_a_library_that_is_not_the_one_written_is_not_loaded(bundle):
    made = bundle("x86_64")
    file = made.path / file_for("x86_64")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(EngineError, match="not the file that was written into this bundle"):
        library_of(made)


def test_a_library_under_another_machines_name_is_refused(bundle):
    made = bundle("x86_64")
    write_library(made.path / file_for("x86_64"), "aarch64")
    seal(made.path, made.manifest)
    with pytest.raises(EngineError, match="is for aarch64, and this machine is x86_64"):
        library_of(open_bundle(made.path))


@pytest.mark.parametrize(
    ("here", "wanted", "got"),
    [("glibc 2.31", "GLIBC_2.34", r"2\.31"), ("musl 1.2", "GLIBC_2.4", "none"), (None, "GLIBC_2.4", "none")],
)
def test_a_c_library_too_old_is_named_with_what_is_wanted(bundle, monkeypatch, here, wanted, got):
    made = bundle("x86_64")
    write_library(made.path / file_for("x86_64"), versions=(wanted,))
    seal(made.path, made.manifest)
    monkeypatch.setattr(os, "confstr", lambda name: here, raising=False)
    version = wanted.removeprefix("GLIBC_")
    with pytest.raises(EngineError, match=rf"needs glibc {version} or newer, and this system has {got}: .*--ops"):
        library_of(open_bundle(made.path))


def test_a_library_of_another_contract_is_refused_by_its_page_here_and_where_a_build_takes_it(bundle, monkeypatch):
    made = bundle("x86_64")
    library = write_page(made.path / file_for("x86_64"), contract=3)
    seal(made.path, made.manifest)
    with pytest.raises(EngineError, match=r"implements contract 3 of the plugins, and this version's graphs are of 2"):
        library_of(open_bundle(made.path))
    monkeypatch.setenv("STTS_TRT_LIBRARY", str(library))
    with pytest.raises(EngineError, match="implements contract 3"):
        found_libraries()


def test_a_page_of_another_library_or_a_damaged_one_says_nothing(tmp_path):
    library = write_page(write_library(tmp_path / "libstts_trt.so"))
    assert read_page(library) == PluginPage(2, "10.14.1", (86, 120), {86: 12, 120: 13})
    write_page(library, sha256="0" * 64)
    assert read_page(library) is None
    for text in ("{", "[]", '{"sha256": 1}', "{" * 100_000):
        library.with_name("libstts_trt.json").write_text(text)
        assert read_page(library) is None


GPUS = [(80, 80), (86, 86), (87, 87), (89, 86), (90, None), (110, None), (120, 120), (121, 120)]


@pytest.mark.parametrize(("gpu", "sm"), GPUS)
def test_a_gpu_runs_kernels_of_its_own_major_number_up_to_its_minor_one_and_a_jetson_its_own_alone(gpu, sm):
    page = PluginPage(1, "10.14.1", (80, 86, 87, 120), {})
    assert (page.sm_for(gpu), page.serves(gpu)) == (sm, sm is not None)


def test_a_system_without_the_question_has_no_gnu_c_library(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", refuse, raising=False)
    assert glibc_here() is None


def test_the_environment_outweighs_what_lies_about_and_may_name_a_folder(tmp_path, monkeypatch):
    write_library(tmp_path / "IN_A_CHECKOUT" / "aarch64" / "libstts_trt.so", "aarch64")
    own = write_library(tmp_path / "own" / "somewhere" / "libstts_trt.so")
    for named in (own, tmp_path / "own"):
        monkeypatch.setenv("STTS_TRT_LIBRARY", str(named))
        assert found_libraries() == {"x86_64": own}
    monkeypatch.setenv("STTS_TRT_LIBRARY", str(tmp_path / "absent"))
    with pytest.raises(EngineError, match=r"STTS_TRT_LIBRARY is '.*absent', where no libstts_trt.so lies"):
        found_libraries()


def test_the_packages_own_library_outweighs_the_checkouts(tmp_path):
    assert found_libraries() == {}
    checkout = {machine: tmp_path / "IN_A_CHECKOUT" / machine / "libstts_trt.so" for machine in ("aarch64", "x86_64")}
    for machine, file in checkout.items():
        write_library(file, machine)
    assert found_libraries() == checkout
    own = write_library(tmp_path / "WITH_THE_PACKAGE" / "x86_64" / "libstts_trt.so")
    assert found_libraries() == {**checkout, "x86_64": own}


def test_a_file_of_the_name_that_is_no_library_is_told(tmp_path):
    (tmp_path / "IN_A_CHECKOUT").mkdir()
    (tmp_path / "IN_A_CHECKOUT" / "libstts_trt.so").write_text("nothing")
    with pytest.raises(BundleError, match="cannot be read as a shared library"):
        found_libraries()


def test_a_jetson_is_an_arm_machine():
    assert machine_of(TOY_TARGET) == "x86_64"
    assert machine_of(replace(TOY_TARGET, jetpacks=("6.2",))) == "aarch64"


def test_engines_of_bundles_that_knew_nothing_of_plugins_stay_theirs(bundle, tmp_path):
    plugin = bundle("x86_64").manifest
    portable = replace(plugin, engine=replace(plugin.engine, ops="portable"))
    assert manifest_digest(plugin) != manifest_digest(portable)
    built_from = [entry for entry in plugin.files if entry.path.endswith((".onnx", ".bin"))]
    entries = sorted(built_from, key=lambda entry: entry.path)
    settings = {"backend": "tensorrt_rtx", "device": "cuda", "precision": "float16", "prepack": False}
    before = digest_of(to_plain({"graphs": plugin.graphs, "engine": settings, "files": entries}))
    assert manifest_digest(portable) == before
