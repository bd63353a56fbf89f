"""What our code takes for granted of a TensorRT that runs engines; the real ones are asked where there is a GPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from reference.onnx_graphs import WIDTH, write_decoder

from stts_runtime.bundle.spec import storage_dtype
from stts_runtime.trt import dialect
from stts_runtime.trt.layout import read_layout


RANGES = [{"S": (1, 64), "K": (1, 16), "P": (0, 64)}, {"S": (1, 2), "K": (1, 1), "P": (0, 64)}]


@pytest.fixture
def graph(tmp_path):
    return tmp_path / "decoder.onnx"


@pytest.fixture
def spec(graph):
    return write_decoder(graph, "float32")


@pytest.fixture
def engine(runtime, spec, graph):
    return runtime.engine(spec, graph)


def inputs_for(tokens, past, rows=1, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "token_ids": rng.integers(0, 32, (1, tokens)),
        "features": rng.normal(size=(rows, WIDTH)).astype(np.float32),
        "feature_rows": rng.integers(0, rows, tokens),
        "vision_flags": rng.integers(0, 2, tokens).astype(bool),
        "past_key_0": rng.normal(size=(1, 1, past, WIDTH)).astype(np.float32),
    }


class Run:
    """A context of one profile, set and run as `TrtEngine` does it."""

    def __init__(self, runtime, engine, spec, profile=0, captures=False):
        self.runtime, self.spec, self.device = runtime, spec, runtime.device
        self.layout = read_layout(runtime.bindings, engine, spec)
        self.context, self.kept = dialect.create_context(runtime.bindings, engine, captures)
        size = dialect.context_memory_size(engine, profile)
        dialect.set_context_memory(self.context, self.device.room(max(1, size)), size)
        assert self.context.set_optimization_profile_async(profile, int(self.device.stream))
        self.at = {}

    def shaped(self, inputs):
        return all(accepted(self.context.set_input_shape, name, array.shape) for name, array in inputs.items())

    def place(self, inputs):
        """Bring inputs to the device, and say where they and the outputs lie."""
        for name, array in inputs.items():
            self.at[name] = self.device.given(array.astype(self.layout.dtypes[name]))
        for tensor in self.spec.outputs:
            shape = tuple(self.context.get_tensor_shape(tensor.name))
            self.at[tensor.name] = self.device.room(int(np.prod(shape)) * storage_dtype(tensor.dtype).itemsize)
        assert all(self.context.set_tensor_address(name, address) for name, address in self.at.items())

    def enqueue(self):
        return self.context.execute_async_v3(int(self.device.stream))

    def check(self, inputs, graph):
        """Hold the outputs against onnxruntime's."""
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        wanted = session.run([tensor.name for tensor in self.spec.outputs], inputs)
        for tensor, array in zip(self.spec.outputs, wanted, strict=True):
            got = self.device.read(self.at[tensor.name], array.shape, array.dtype)
            np.testing.assert_allclose(got, array, rtol=0, atol=1e-4, err_msg=tensor.name)


def accepted(call, *arguments):
    try:
        return bool(call(*arguments))
    except (RuntimeError, ValueError):  # some versions raise where others return False
        return False


def test_an_engine_says_what_it_takes_and_gives_and_for_which_sizes(runtime, engine, spec):
    layout = read_layout(runtime.bindings, engine, spec)
    assert {tensor.name for tensor in layout.inputs} == {tensor.name for tensor in spec.inputs}
    assert [profile.ranges for profile in layout.profiles] == RANGES


def test_bytes_that_are_no_engine_are_refused_and_the_logger_is_told_why(runtime):
    assert runtime.runtime.deserialize_cuda_engine(b"no engine at all, and long enough to have had a header") is None
    assert runtime.messages.errors()


def test_an_output_has_no_size_before_the_inputs_have_theirs(runtime, engine, spec):
    run = Run(runtime, engine, spec)
    assert tuple(run.context.get_tensor_shape("new_key_0")) == (1, 1, -1, WIDTH)
    assert run.shaped(inputs_for(5, 3))
    assert tuple(run.context.get_tensor_shape("new_key_0")) == (1, 1, 5, WIDTH)


@pytest.mark.parametrize(
    ("profile", "shape"), [(0, (1, 65)), (0, (1, 0)), (0, (5,)), (1, (1, 3))], ids=["above", "below", "rank", "decode"]
)
def test_a_shape_that_a_profile_does_not_hold_is_refused(runtime, engine, spec, profile, shape):
    run = Run(runtime, engine, spec, profile)
    assert not accepted(run.context.set_input_shape, "token_ids", shape)
    assert runtime.messages.errors()


def test_a_profile_that_is_not_there_is_refused(runtime, engine, spec):
    run = Run(runtime, engine, spec)
    assert not accepted(run.context.set_optimization_profile_async, 2, int(runtime.device.stream))


def test_runs_of_any_shapes_give_what_the_graph_says_one_after_another(runtime, engine, spec, graph):
    run = Run(runtime, engine, spec)
    for seed, (tokens, past, rows) in enumerate([(5, 3, 2), (64, 64, 16), (1, 0, 1)]):
        inputs = inputs_for(tokens, past, rows, seed)
        assert run.shaped(inputs)
        run.place(inputs)
        assert run.enqueue()
        run.check(inputs, graph)


def test_two_contexts_of_an_engine_run_side_by_side(runtime, engine, spec, graph):
    runs = [Run(runtime, engine, spec, profile) for profile in (0, 1)]
    both = [inputs_for(7, 9, 3), inputs_for(1, 9)]
    for run, inputs in zip(runs, both, strict=True):
        assert run.shaped(inputs)
        run.place(inputs)
        assert run.enqueue()
    for run, inputs in zip(runs, both, strict=True):
        run.check(inputs, graph)


def test_a_run_with_a_tensor_that_lies_nowhere_is_refused(runtime, engine, spec):
    run = Run(runtime, engine, spec)
    assert run.shaped(inputs_for(5, 3))
    assert not accepted(run.enqueue)
    assert not accepted(run.context.set_tensor_address, "no such tensor", runtime.device.room(256))


def test_a_run_that_was_done_once_can_be_recorded_and_replayed_on_new_values(runtime, engine, spec, graph):
    if not dialect.can_be_captured(runtime.bindings):
        pytest.skip("TensorRT-RTX records runs itself")
    run = Run(runtime, engine, spec, profile=1)
    inputs = inputs_for(1, 8)
    assert run.shaped(inputs)
    run.place(inputs)
    assert run.enqueue()
    run.device.cuda.synchronize(run.device.stream)
    run.device.cuda.begin_capture(run.device.stream)
    assert run.enqueue()
    recorded = run.device.cuda.end_capture(run.device.stream)
    other = inputs_for(1, 8, seed=1)
    for name, array in other.items():
        there = run.device.given(array.astype(run.layout.dtypes[name]))
        run.device.cuda.copy(run.at[name], there, array.astype(run.layout.dtypes[name]).nbytes, run.device.stream)
    run.device.cuda.launch(recorded, run.device.stream)
    run.check(other, graph)
    run.device.cuda.end_graph(recorded)


def test_a_context_that_may_record_runs_itself_gives_the_same_every_time(runtime, engine, spec, graph):
    run = Run(runtime, engine, spec, profile=1, captures=True)
    inputs = inputs_for(1, 8)
    assert run.shaped(inputs)
    run.place(inputs)
    for _ in range(3):
        assert run.enqueue()
        run.check(inputs, graph)
