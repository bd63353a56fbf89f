"""A binding that is used again: it binds what changed, and checks it as it checks all."""

import gc
import threading
import weakref

import numpy as np
import onnx_ir as ir
import pytest
from reference.small_graph import model_of, named, value

from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine.binding import Binding
from stts_runtime.engine.ort import OnnxruntimeEngine
from stts_runtime.errors import EngineError


SPEC = GraphSpec(
    "sum",
    (TensorSpec("x", "float32", ("S", 4)), TensorSpec("y", "float32", ("S", 4))),
    (TensorSpec("sum", "float32", ("S", 4)),),
    (Dim("S", 1, 4, 64),),
)


@pytest.fixture
def engine(tmp_path):
    x, y = value("x", "S", 4), value("y", "S", 4)
    add = named(ir.node("Add", [x, y]), "sum", shape=("S", 4))
    ir.save(model_of([x, y], [add], add.outputs), tmp_path / "sum.onnx")
    return OnnxruntimeEngine(tmp_path / "sum.onnx", SPEC, prepack=True, threads=1)


class Recorder:
    """Stands in for a session, and its binding notes what is bound."""

    def __init__(self):
        self.bound = []

    def io_binding(self):
        return self

    def bind_input(self, name, *_):
        self.bound.append(name)

    bind_output = bind_input


def drawn(count, seed=0):
    x, y = np.random.default_rng(seed).standard_normal((2, count, 4)).astype(np.float32)
    return {"x": x, "y": y}, {"sum": np.full((count, 4), np.nan, np.float32)}


def check(engine, inputs, outputs):
    engine.run(inputs, outputs)
    np.testing.assert_array_equal(outputs["sum"], inputs["x"] + inputs["y"])


def test_only_arrays_that_are_others_are_bound_again():
    recorder = Recorder()
    binding = Binding(recorder, SPEC)
    inputs, outputs = drawn(3)
    assert binding.bind(inputs, outputs) == {"S": 3}
    binding.bind(inputs, outputs)
    binding.bind({**inputs, "y": inputs["y"].copy()}, outputs)
    assert recorder.bound == ["x", "y", "sum", "y"]


def test_arrays_of_one_run_may_be_written_over_taken_again_let_go_of_and_be_of_another_size(engine):
    inputs, outputs = drawn(3)
    check(engine, inputs, outputs)
    inputs["x"][...] = 7
    check(engine, inputs, outputs)
    for count in (3, 5, 3):
        for seed in range(20):  # memory that was given back is used again, for arrays that are others
            gc.collect()
            check(engine, *drawn(count, seed))
    check(engine, inputs, outputs)


def test_an_array_whose_shape_was_changed_in_its_place_is_looked_at_again(engine):
    inputs, outputs = drawn(4)
    check(engine, inputs, outputs)
    inputs["x"].shape = (2, 8)
    with pytest.raises(EngineError, match=r"'x': wanted float32 \['S', 4\]"):
        engine.run(inputs, outputs)


@pytest.mark.parametrize("name", ["x", "y", "sum"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((3, 4), np.float64), "got float64"),
        (np.zeros((2, 4), np.float32), r"got float32 \[\d, 4\]"),
        (np.zeros((3, 5), np.float32), r"got float32 \[3, 5\]"),
        (np.zeros((4, 3), np.float32).T, "C-contiguous"),
        ([[0.0] * 4] * 3, "got list"),
        (None, "got none"),
    ],
)
def test_what_does_not_fit_is_refused_as_at_first_and_the_next_run_is_sound(engine, name, other, message):
    inputs, outputs = drawn(3)
    check(engine, inputs, outputs)
    given = {**inputs, **outputs, name: other}
    with pytest.raises(EngineError, match=message):
        engine.run({"x": given["x"], "y": given["y"]}, {"sum": given["sum"]})
    check(engine, inputs, outputs)


def test_an_output_that_is_read_only_is_refused(engine):
    inputs, outputs = drawn(3)
    check(engine, inputs, outputs)
    fixed = np.zeros((3, 4), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(EngineError, match="read-only"):
        engine.run(inputs, {"sum": fixed})


def test_arrays_of_a_run_are_not_kept_alive(engine):
    inputs, outputs = drawn(3)
    check(engine, inputs, outputs)
    seen = weakref.ref(inputs.pop("x")), weakref.ref(outputs.pop("sum"))
    gc.collect()
    assert [one() for one in seen] == [None, None]


def test_runs_in_several_threads_do_not_mix_their_arrays(engine):
    failures = []

    def work(seed):
        try:
            for count in (2, 3) * 50:
                check(engine, *drawn(count, seed))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
