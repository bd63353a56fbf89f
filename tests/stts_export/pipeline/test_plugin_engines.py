"""Real engines with the plugins of the library, by TensorRT-RTX and without a GPU: its kernels are not asked here."""

import os
import shutil

import pytest
from reference.engine_bundle import seal
from reference.plugin_harness import harness_for

from stts_export.inspection.engines import inspect_engines
from stts_runtime.build import build_engines
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plugin_library import file_for
from stts_runtime.bundle.plugin_page import PAGE


MACHINE = os.uname().machine


@pytest.fixture(scope="module")
def with_library(run_folder, tmp_path_factory):
    """Return a function that copies a bundle, with the library as it is compiled for this machine."""

    def made(bundle):
        library = harness_for(MACHINE, run_folder).folder / "libstts_trt.so"
        root = tmp_path_factory.mktemp("engines") / "plugin.stts"
        shutil.copytree(bundle, root)
        shutil.copyfile(library, root / file_for(MACHINE))
        (root / file_for(MACHINE)).with_name(PAGE).unlink()
        seal(root, open_bundle(bundle).manifest)
        return open_bundle(root, check=True)

    return made


@pytest.fixture(scope="module")
def bundle(plugin_bundle, with_library):
    """The toy bundle with plugins."""
    return with_library(plugin_bundle)


@pytest.mark.slow
def test_every_part_becomes_an_engine_with_its_plugins_and_without_a_mask(bundle):
    # Raises where bindings or profiles depart from the spec.
    found = {(one.part, one.compute_capabilities[0]): one for one in inspect_engines(bundle, None, [(86,), (120,)])}
    assert set(found) == {(part, sm) for part in bundle.manifest.graphs for sm in (86, 120)}
    layers = bundle.manifest.decoder.layers
    for sm in (86, 120):
        decoder, encode, score, select = (
            found[part, sm] for part in ("decoder", "vision_encode", "vision_score", "vision_select")
        )
        assert (decoder.plugin_layers, decoder.squares) == (2 * layers, 0)  # a layer in each of two profiles
        assert (decoder.fused_attentions, len(decoder.activation_bytes)) == (decoder.attentions, 2)
        assert (encode.plugin_layers, encode.plugins, encode.squares) == (3, 3, 0)  # pack, two blocks
        assert (score.plugin_layers, select.plugin_layers) == (1, 1)


@pytest.mark.slow
def test_so_does_every_part_of_a_qwen3_vl(qwen_bundle, with_library):
    bundle = with_library(qwen_bundle("plugin"))
    found = {one.part: one for one in inspect_engines(bundle, None, [(86,)])}
    assert set(found) == set(bundle.manifest.graphs)
    assert all(one.fused_attentions == one.attentions for one in found.values())
    layers = bundle.manifest.decoder.layers
    decoder, encode = found["decoder"], found["vision_encode"]
    assert (decoder.plugin_layers, decoder.squares) == (2 * layers, 0)
    assert (encode.plugin_layers, encode.squares) == (6, 0)  # pack, five blocks
    assert (found["vision_score"].plugin_layers, found["vision_select"].plugin_layers) == (1, 1)


def test_engines_are_built_into_the_bundle_by_its_own_library(bundle):
    engines = build_engines(bundle.path, compute_capabilities=[86])
    assert [file.part for file in engines.files] == list(bundle.manifest.graphs)
    open_bundle(bundle.path, check=True)
