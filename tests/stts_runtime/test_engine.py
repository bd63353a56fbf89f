"""The onnxruntime engine: it binds what fits, refuses what does not, and never writes past an array's end."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from reference.small_graph import model_of, named, value
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bundle.manifest import EngineSettings, GraphEntry
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine import HostMemory, open_engine
from stts_runtime.engine.ort import PROVIDERS, OnnxruntimeEngine
from stts_runtime.errors import EngineError, UsageError


SPEC = GraphSpec(
    "small",
    (TensorSpec("x", "float32", ("T", 4)),),
    (TensorSpec("y", "float32", ("T", 4)), TensorSpec("rows", "float32", ("K", 1))),
    (Dim("T", 0, 4, 8), Dim("K", 0, 16, 32)),
)
SETTINGS = EngineSettings("onnxruntime", "cpu", "float32", prepack=True)


def bundle_of(graph, **settings):
    """A bundle of the small graph whose manifest wants it run so."""
    graphs = {"small": GraphEntry(graph.name, SPEC)}
    return Bundle(graph.parent, replace(TOY_MANIFEST, graphs=graphs, engine=replace(SETTINGS, **settings)))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    x = value("x", "T", 4)
    double = named(ir.node("Add", [x, x]), "y", shape=("T", 4))
    rows = named(ir.node("Flatten", [double.outputs[0]], attributes={"axis": 2}), "rows", shape=("K", 1))
    path = tmp_path_factory.mktemp("engine") / "small.onnx"
    ir.save(model_of([x], [double, rows], [double.outputs[0], rows.outputs[0]]), path)
    return path


@pytest.fixture
def engine(graph):
    return OnnxruntimeEngine(graph, SPEC, prepack=True)


def outputs_for(frames):
    return {"y": np.empty((frames, 4), np.float32), "rows": np.empty((4 * frames, 1), np.float32)}


@pytest.mark.parametrize("frames", [1, 3, 8, 0])
def test_outputs_are_written_in_place(engine, frames):
    x = np.random.default_rng(0).standard_normal((frames, 4)).astype(np.float32)
    outputs = outputs_for(frames)
    kept = dict(outputs)
    engine.run({"x": x, "something the graph does not take": x}, outputs)
    assert all(outputs[name] is kept[name] for name in kept)
    np.testing.assert_array_equal(outputs["y"], 2 * x)
    np.testing.assert_array_equal(outputs["rows"], 2 * x.reshape(-1, 1))


def test_a_part_of_a_larger_array_can_be_written(engine):
    whole = np.zeros((9, 4), np.float32)
    engine.run({"x": np.ones((3, 4), np.float32)}, {**outputs_for(3), "y": whole[3:6]})
    assert whole.sum(axis=1).tolist() == [0, 0, 0, 8, 8, 8, 0, 0, 0]


@pytest.mark.parametrize(
    "x",
    [
        np.ones((3, 4)),
        np.ones((3, 4), np.int32),
        np.ones((3, 4), ">f4"),
        np.ones((3, 5), np.float32),
        np.ones((3, 4, 1), np.float32),
        np.ones(4, np.float32),
        np.ones((3, 8), np.float32)[:, ::2],
        np.ones((4, 3), np.float32).T,
    ],
    ids=["float64", "int32", "byte order", "size", "rank 3", "rank 1", "strided", "transposed"],
)
def test_an_input_of_another_kind_is_refused_by_name(engine, x):
    with pytest.raises(EngineError, match=r"'small', 'x': wanted float32 \['T', 4\]"):
        engine.run({"x": x}, outputs_for(3))


def test_an_output_of_another_kind_is_refused_by_name(engine):
    for wrong in (np.empty((3, 5), np.float32), np.empty((3, 4)), np.empty((4, 3), np.float32).T):
        with pytest.raises(EngineError, match="'small', 'y'"):
            engine.run({"x": np.ones((3, 4), np.float32)}, {**outputs_for(3), "y": wrong})


@pytest.mark.parametrize(("name", "size"), [("y", 2), ("y", 5), ("rows", 11), ("rows", 13), ("rows", 0)])
def test_an_output_of_the_wrong_length_is_refused_and_nothing_is_written_outside_it(engine, name, size, capfd):
    frame = np.full((64, outputs_for(3)[name].shape[1]), 7, np.float32)
    inside = slice(20, 20 + size)
    with pytest.raises(EngineError, match="small"):
        engine.run({"x": np.ones((3, 4), np.float32)}, {**outputs_for(3), name: frame[inside]})
    assert (np.delete(frame, np.r_[inside], axis=0) == 7).all()
    engine.run({"x": np.ones((3, 4), np.float32)}, outputs_for(3))


def test_an_engine_opens_with_the_threads_of_the_environment(graph, monkeypatch):
    seen = []
    session = onnxruntime.InferenceSession

    def watched(path, options, **others):
        seen.append((options.intra_op_num_threads, options.get_session_config_entry("session.disable_prepacking")))
        return session(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    monkeypatch.setenv("STTS_THREADS", "1")
    OnnxruntimeEngine(graph, SPEC, prepack=False)
    OnnxruntimeEngine(graph, SPEC, prepack=False, threads=2)
    assert seen == [(1, "1"), (2, "1")]


@pytest.mark.parametrize("text", ["99999", "-1", "two", "9" * 5000, "\u0664", "1.5"])
def test_threads_that_no_machine_has_are_refused_before_any_is_started(graph, monkeypatch, text):
    monkeypatch.setenv("STTS_THREADS", text)
    with pytest.raises(UsageError, match=r"STTS_THREADS is .{1,45}, wanted a number of threads up to [0-9]+, or 0"):
        OnnxruntimeEngine(graph, SPEC, prepack=False)


def test_a_graph_that_cannot_be_loaded_is_refused_by_name(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"onnxruntime refuses bad\.onnx"):
        OnnxruntimeEngine(tmp_path / "bad.onnx", SPEC, prepack=True)


def test_a_missing_onnxruntime_says_how_to_get_it(graph, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install onnxruntime$"):
        open_engine(bundle_of(graph), "small")
    with pytest.raises(EngineError, match=r"pip install onnxruntime-gpu$"):
        open_engine(bundle_of(graph, device="cuda"), "small")


def test_an_engine_of_a_bundle_is_opened_by_its_settings(graph):
    engine = open_engine(bundle_of(graph), "small")
    assert isinstance(engine.memory, HostMemory)
    engine.run({"x": np.ones((1, 4), np.float32)}, outputs_for(1))
    engine.close()
    engine.close()


def test_an_unknown_backend_or_device_is_refused_and_told_what_there_is(graph):
    with pytest.raises(EngineError, match=r"'abacus'.*it has: onnxruntime, tensorrt, tensorrt_rtx"):
        open_engine(bundle_of(graph, backend="abacus"), "small")
    with pytest.raises(EngineError, match=r"'tpu'.*it can: cpu, cuda"):
        open_engine(bundle_of(graph, device="tpu"), "small")


def test_an_onnxruntime_without_cuda_is_refused_before_a_session_falls_back_to_the_cpu(graph, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(EngineError, match=r"built without it \(it has: CPUExecutionProvider\).*onnxruntime-gpu"):
        open_engine(bundle_of(graph, device="cuda"), "small")


def test_a_session_that_fell_back_to_the_cpu_is_refused(graph, monkeypatch):
    session, asked = onnxruntime.InferenceSession, []

    def fallen(path, options, providers):
        asked.extend(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*PROVIDERS.values()])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fallen)
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider but could not start it.*onnxruntime-gpu\[cuda"):
        open_engine(bundle_of(graph, device="cuda"), "small")
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0"})]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_in_and_out_as_it_is_stored(tmp_path, dtype):
    kind = ir.TensorType({"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}[dtype])
    x = ir.Value(name="x", type=kind, shape=ir.Shape(("T", 4)))
    exact = named(ir.node("Cast", [x], attributes={"to": ir.DataType.FLOAT.value}), "exact", shape=("T", 4))
    doubled = named(ir.node("Add", [exact.outputs[0]] * 2), "doubled", shape=("T", 4))
    y = ir.node("Cast", [doubled.outputs[0]], attributes={"to": kind.dtype.value})
    y.outputs[0].name, y.outputs[0].type, y.outputs[0].shape = "y", kind, ir.Shape(("T", 4))
    ir.save(model_of([x], [exact, doubled, y], y.outputs), tmp_path / "half.onnx")
    shape = ("T", 4)
    spec = GraphSpec("half", (TensorSpec("x", dtype, shape),), (TensorSpec("y", dtype, shape),), (Dim("T", 0, 4, 8),))
    engine = OnnxruntimeEngine(tmp_path / "half.onnx", spec, prepack=True)
    values = np.array([[0, 1, -2.5, 1000], [0.5, 3, 7, -64]], np.float32)
    given = values.astype(np.float16) if dtype == "float16" else (values.view(np.uint32) >> 16).astype(np.uint16)
    got = engine.memory.empty(given.shape, dtype)
    engine.run({"x": given}, {"y": got})
    back = got.astype(np.float32) if dtype == "float16" else (got.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(back, 2 * values)
    with pytest.raises(EngineError, match=rf"'half', 'x': wanted {dtype}"):
        engine.run({"x": values}, {"y": got})
