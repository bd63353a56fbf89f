import base64
import io
import json
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from reference.verified_bundle import verified_bundle

from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.cli import main
from stts_runtime.errors import UsageError
from stts_runtime.verify.polygraphy import INPUTS, OUTPUTS
from stts_runtime.verify.reference import reference_of
from stts_runtime.verify.saved_runs import FIRST, check_savable, line_of, profile_of, save_runs


@pytest.fixture(scope="module")
def bundle(toy_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    return open_bundle(verified_bundle(toy_bundle("ragged"), "ragged", folder / "ragged.stts"))


def arrays_of(file):
    """The arrays of each run, read by nothing of ours or of Polygraphy's."""
    content = json.loads(file.read_text())
    if isinstance(content, dict):
        ((_, runs),) = content["lst"]
        content = [{name: lazy["values"] for name, lazy in run["outputs"].items()} for run in runs]
    return [
        {name: np.load(io.BytesIO(base64.b64decode(array["array"]))) for name, array in run.items()} for run in content
    ]


def test_inputs_and_whole_outputs_of_every_run_of_every_part_are_saved(bundle, tmp_path):
    reference = reference_of(bundle)
    lines = save_runs(bundle, reference, tmp_path / "runs")
    assert len(lines) == len(bundle.manifest.graphs)
    for (part, graph), line in zip(bundle.manifest.graphs.items(), lines, strict=True):
        inputs, outputs = (arrays_of(tmp_path / "runs" / part / file) for file in (INPUTS, OUTPUTS))
        cases = reference.cases(part)
        assert len(inputs) == len(outputs) == len(cases) > 0
        (first,) = arrays_of(tmp_path / "runs" / part / FIRST)
        assert all(np.array_equal(first[name], array) for name, array in inputs[0].items())
        for run, given, said in zip(cases, inputs, outputs, strict=True):
            assert [*given] == [tensor.name for tensor in graph.spec.inputs]
            assert [*said] == [tensor.name for tensor in graph.spec.outputs]
            for value in run.values:
                if value.binding in said:
                    rows, wanted = reference.rows(run, value)
                    got = said[value.binding]
                    assert got.shape == value.shape
                    got = got.reshape(-1, got.shape[-1])[rows]
                    np.testing.assert_allclose(got, wanted, atol=1e-4 * value.magnitude)
        words = shlex.split(line)
        assert words[:4] == ["polygraphy", "run", str(bundle.file(graph.file)), "--onnxrt"]
        assert "--trt" not in words
        tolerances = words[words.index("--atol") + 1 :]
        assert [one.partition(":")[0] for one in tolerances] == [tensor.name for tensor in graph.spec.outputs]


def test_a_line_for_engines_runs_both_and_one_with_plugins_only_tensorrt(bundle, plugin_bundle):
    outputs = [{"features": np.ones(3, np.float32)}]
    engine = replace(bundle.manifest.engine, backend="tensorrt", device="cuda", precision="float16")
    built = Bundle(bundle.path, replace(bundle.manifest, engine=engine))
    words = shlex.split(line_of(built, "vision_encode", bundle.path, outputs))
    assert words[3:6] == ["--onnxrt", "--trt", "--strongly-typed"]
    assert words[-1] == "features:0.02"
    words = shlex.split(line_of(open_bundle(plugin_bundle), "vision_encode", bundle.path, outputs))
    assert words[0] == "POLYGRAPHY_USE_TENSORRT_RTX=1"
    assert words[4:6] == ["--trt", "--plugins"]
    assert words[6].endswith("libstts_trt.so")


def test_one_profile_serves_prefill_and_the_decode_step(bundle):
    spec = bundle.manifest.graphs["decoder"].spec
    sizes = {dim.name: dim for dim in spec.dims}
    least, best, most = profile_of(spec)["token_ids"]
    assert least == (1, min(dim.minimum for dim in (*spec.dims, *spec.step) if dim.name == "S"))
    assert best == (1, sizes["S"].optimum)
    assert most == (1, sizes["S"].maximum)


def test_bfloat16_is_refused_before_anything_runs(bundle, tmp_path):
    graph = bundle.manifest.graphs["vision_encode"]
    spec = replace(graph.spec, outputs=tuple(replace(one, dtype="bfloat16") for one in graph.spec.outputs))
    graphs = {**bundle.manifest.graphs, "vision_encode": replace(graph, spec=spec)}
    changed = Bundle(bundle.path, replace(bundle.manifest, graphs=graphs))
    with pytest.raises(UsageError, match=r"'features' of vision_encode is bfloat16.*--precision float16"):
        check_savable(changed, tmp_path / "runs")


def test_the_command_prints_a_line_for_each_part_and_refuses_a_folder_that_is_there(
    bundle, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    arguments = ["verify", str(bundle.path), "--save-inputs", str(tmp_path / "runs")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.count("  polygraphy run ") == len(bundle.manifest.graphs)
    assert "pip install polygraphy" in said
    assert main(arguments) == 2
    assert "--save-inputs" in (message := capsys.readouterr().err)
    assert "something is there already: name a folder that is not, or remove it" in message


def test_the_command_prints_the_lines_in_its_json_too(bundle, tmp_path, capsys):
    assert main(["verify", str(bundle.path), "--json", "--save-inputs", str(tmp_path / "runs")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert len(report["polygraphy"]) == len(bundle.manifest.graphs)
