import importlib.util
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from reference.engine_bundle import PARTS, write_engine_bundle, write_plugin_bundle

from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.errors import EngineError, UsageError


TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "polygraphy_engines.py"))
engine_rows, main = TOOL["engine_rows"], TOOL["main"]
needs_polygraphy = pytest.mark.skipif(
    importlib.util.find_spec("polygraphy") is None, reason="Polygraphy is not installed: make setup installs it"
)


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_engine_bundle(tmp_path / "rtx.stts"))


@needs_polygraphy
def test_polygraphy_reads_every_part_and_builds_its_engine_for_cards_that_are_not_here(bundle, capsys):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    assert main([str(bundle.path), "--compute-capability", "8.6"]) == 0
    said = capsys.readouterr().out
    assert "by Polygraphy, for 8.6" in said
    for part in PARTS:
        (line,) = [line for line in said.splitlines() if line.startswith(part)]
        assert "all operators" in line
        assert float(line.split()[-1]) > 0


@needs_polygraphy
def test_a_graph_that_tensorrt_does_not_read_fails_with_its_part(bundle):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    bundle.file("decoder.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"decoder: "):
        engine_rows(bundle, ["8.6"], ["decoder"])


@needs_polygraphy
def test_a_bundle_of_another_kind_and_an_unknown_part_are_refused(bundle, tmp_path):
    on_cpu = replace(bundle.manifest, engine=replace(bundle.manifest.engine, backend="onnxruntime"))
    with pytest.raises(UsageError, match=r"rtx.stts is not for TensorRT by itself: build it with --target rtx"):
        engine_rows(Bundle(bundle.path, on_cpu), ["8.6"])
    with pytest.raises(UsageError, match="not for TensorRT by itself"):
        engine_rows(open_bundle(write_plugin_bundle(tmp_path / "plugin.stts")), ["8.6"])
    with pytest.raises(UsageError, match=r"has no part 'tower'; it has decoder, vision_toy"):
        engine_rows(bundle, ["8.6"], ["tower"])


def test_without_polygraphy_it_says_what_to_install(bundle, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main([str(bundle.path)]) == 2
    assert capsys.readouterr().err == "error: polygraphy is not installed: pip install 'stts-export[debug]'\n"
