"""What our code takes for granted of a TensorRT that builds engines; TensorRT-RTX is asked here too, without a GPU."""

from __future__ import annotations

import pytest
from reference.onnx_graphs import write_block, write_decoder

from stts_runtime.trt import dialect
from stts_runtime.trt.messages import Messages, collecting_logger
from stts_runtime.trt.onnx_file import read_onnx_file
from stts_runtime.trt.parse import parse
from stts_runtime.trt.profiles import add_profiles
from stts_runtime.trt.progress import progress_monitor


class Build:
    """A build as `stts_runtime.trt.child` begins it."""

    def __init__(self, bindings):
        self.bindings, self.messages = bindings, Messages()
        self.logger = collecting_logger(bindings.module, self.messages, verbose=False)
        self.builder = bindings.module.Builder(self.logger)
        self.network = dialect.create_network(bindings, self.builder)
        self.config = self.builder.create_builder_config()
        dialect.set_compute_capabilities(bindings, self.config, (86,))

    def parse(self, graph, spec):
        return parse(self.bindings, self.network, self.logger, self.messages, graph, spec)

    def plan(self):
        return self.builder.build_serialized_network(self.network, self.config)


@pytest.fixture
def build(builds):
    return Build(builds)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_parsed_network_has_the_graphs_tensors_and_layers(build, tmp_path, precision):
    spec = write_block(tmp_path / "block.onnx", precision)
    parser = build.parse(tmp_path / "block.onnx", spec)  # which checks names, dtypes and sizes
    layers = [build.network.get_layer(index) for index in range(build.network.num_layers)]
    kinds = {layer.type.name for layer in layers}
    assert {"MATRIX_MULTIPLY", "SOFTMAX"} <= kinds
    dtypes = {layer.get_output(i).dtype.name for layer in layers for i in range(layer.num_outputs)}
    assert ("HALF" in dtypes) == (precision == "float16")
    del parser


def test_the_int64_of_a_graph_is_what_the_version_makes_of_it(build, tmp_path):
    spec = write_decoder(tmp_path / "decoder.onnx")
    parser = build.parse(tmp_path / "decoder.onnx", spec)
    got = {build.network.get_input(index).name: build.network.get_input(index) for index in range(5)}
    assert dialect.NETWORK_DTYPES[got["token_ids"].dtype.name] == dialect.network_dtype(build.bindings, "int64")
    assert not any(tensor.is_shape_tensor for tensor in got.values())
    del parser


def test_a_parser_that_does_not_know_an_operator_says_at_which_node(build, tmp_path):
    file = tmp_path / "block.onnx"
    write_block(file, extra="NoSuchOperator")
    parser = build.bindings.module.OnnxParser(build.network, build.logger)
    assert not parser.parse_from_file(str(file))
    assert parser.num_errors > 0
    error = parser.get_error(parser.num_errors - 1)
    number, name, operator = dialect.parser_error_node(error)
    assert read_onnx_file(file).nodes[number].name == "last"
    if dialect.is_strongly_typed(build.bindings):
        assert (name, operator) == ("last", "NoSuchOperator")
    assert str(error.desc())
    assert build.messages.errors()


def test_products_in_tf32_are_on_until_they_are_turned_off(build):
    flag = build.bindings.module.BuilderFlag.TF32
    assert build.config.get_flag(flag)
    dialect.configure(build.bindings, build.config, 1 << 30, inspect=True)
    assert not build.config.get_flag(flag)


def test_a_build_gives_bytes_tells_how_far_it_is_and_what_a_run_will_want(build, tmp_path):
    spec = write_block(tmp_path / "block.onnx", "float16")
    dialect.configure(build.bindings, build.config, None, inspect=False)
    parser = build.parse(tmp_path / "block.onnx", spec)
    add_profiles(build.builder, build.config, spec)
    dialect.set_precision(build.bindings, build.network, build.config, "float16")
    shares = []
    monitor = None
    if dialect.has_progress(build.bindings):
        monitor = progress_monitor(build.bindings.module, lambda phase, share: shares.append(share))
        build.config.progress_monitor = monitor
    plan = build.plan()
    assert len(memoryview(plan)) > 0
    assert shares == sorted(shares)
    assert bool(shares) == dialect.has_progress(build.bindings)
    assert build.messages.figures()["activation_bytes"] > 0
    del monitor, parser


def test_two_profiles_are_numbered_in_their_order(build, tmp_path):
    spec = write_decoder(tmp_path / "decoder.onnx")
    parser = build.parse(tmp_path / "decoder.onnx", spec)
    add_profiles(build.builder, build.config, spec)  # raises where a number is another
    del parser


def test_timings_are_kept_in_bytes_and_what_is_no_cache_is_replaced_by_an_empty_one(build):
    if not dialect.has_timing_cache(build.bindings):
        pytest.skip("TensorRT-RTX times nothing while it builds")
    cache, taken = dialect.attach_timing_cache(build.config, b"")
    assert taken
    content = bytes(cache.serialize())
    assert content
    cache, _ = dialect.attach_timing_cache(build.config, content)
    assert bytes(cache.serialize()) == content
    cache, _ = dialect.attach_timing_cache(build.config, b"no cache")
    assert bytes(cache.serialize())
