"""The same calls on every version of TensorRT, against modules that have exactly what the version has."""

import json

import pytest
from reference.fake_tensorrt import fake_tensorrt
from reference.onnx_graphs import block_spec, decoder_spec, write_block, write_decoder

from stts_runtime.errors import EngineError
from stts_runtime.trt import dialect
from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.messages import Messages, collecting_logger
from stts_runtime.trt.parse import check_network, parse
from stts_runtime.trt.profiles import add_profiles
from stts_runtime.trt.progress import progress_monitor


VERSIONS = ("8.6.0", "10.3.0", "10.13.2.6", "11.4.1.5")
WITHOUT_BLAS = 1 << 3 | 1 << 4


def bindings_of(version):
    return Bindings("tensorrt", fake_tensorrt(version), version)


def built(version, graph, spec, precision, workspace=None):
    """What a build set on a version's network and configuration, in the order that `child` has."""
    bindings = bindings_of(version)
    messages = Messages()
    logger = collecting_logger(bindings.module, messages, verbose=False)
    builder = bindings.module.Builder(logger)
    network = dialect.create_network(bindings, builder)
    config = builder.create_builder_config()
    dialect.set_compute_capabilities(bindings, config, (87,))
    dialect.configure(bindings, config, workspace, inspect=False)
    parse(bindings, network, logger, messages, graph, spec)
    add_profiles(builder, config, spec)
    dialect.set_precision(bindings, network, config, precision)
    if dialect.has_progress(bindings):
        config.progress_monitor = progress_monitor(bindings.module, lambda phase, share: None)
    cache, taken = dialect.attach_timing_cache(config, b"")
    assert taken
    said = json.loads(builder.build_serialized_network(network, config))
    return said, cache


@pytest.mark.parametrize("version", VERSIONS)
def test_a_float16_graph_is_built_in_the_graphs_types_on_every_version(version, tmp_path):
    spec = write_block(tmp_path / "block.onnx", "float16")
    said, cache = built(version, tmp_path / "block.onnx", spec, "float16")
    assert "TF32" not in said["flags"]
    assert said["profiles"] == [{"hidden": [[1, 9, 16], [4, 9, 16], [8, 9, 16]]}]
    assert cache.serialize() != b"timed"  # what was timed is kept
    float32 = {"norm", "softmax", "mean"}
    if version.startswith("8"):
        assert said["creation_flags"] == 1 << 0
        assert {"FP16", "OBEY_PRECISION_CONSTRAINTS"} <= set(said["flags"])
        assert said["constraints"] == {name: {"precision": "FLOAT", "output 0": "FLOAT"} for name in float32}
    else:
        assert said["creation_flags"] == (1 << 1 if version.startswith("10") else 0)
        assert not {"FP16", "BF16"} & set(said["flags"])
        assert said["constraints"] == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_float32_sets_no_precision_flag(version, tmp_path):
    spec = write_block(tmp_path / "block.onnx", "float32")
    said, _ = built(version, tmp_path / "block.onnx", spec, "float32")
    assert said["flags"] == []
    assert said["constraints"] == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_cublas_and_cudnn_are_off_where_they_exist(version, tmp_path):
    spec = write_block(tmp_path / "block.onnx")
    said, _ = built(version, tmp_path / "block.onnx", spec, "float32")
    assert said["tactic_sources"] == (None if version.startswith("11") else WITHOUT_BLAS)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_workspace_is_limited_only_if_asked(version, tmp_path):
    spec = write_block(tmp_path / "block.onnx")
    assert built(version, tmp_path / "block.onnx", spec, "float32")[0]["workspace"] is None
    assert built(version, tmp_path / "block.onnx", spec, "float32", 1 << 20)[0]["workspace"] == 1 << 20


@pytest.mark.parametrize("version", VERSIONS)
def test_the_decoder_has_two_profiles_and_its_int64_is_the_versions_own(version, tmp_path):
    spec = write_decoder(tmp_path / "decoder.onnx")
    said, _ = built(version, tmp_path / "decoder.onnx", spec, "float16")
    assert [profile["token_ids"] for profile in said["profiles"]] == [
        [[1, 1], [1, 8], [1, 64]],
        [[1, 1], [1, 1], [1, 2]],
    ]
    assert dialect.network_dtype(bindings_of(version), "int64") == ("int32" if version.startswith("8") else "int64")


def test_progress_is_reported_from_10_on():
    assert [dialect.has_progress(bindings_of(version)) for version in VERSIONS] == [False, True, True, True]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("content", [b"garbage", b"timed on other device"])
def test_a_timing_cache_that_tensorrt_cannot_use_is_replaced_by_an_empty_one(version, content):
    config = bindings_of(version).module.Builder(None).create_builder_config()
    cache, taken = dialect.attach_timing_cache(config, content)
    assert cache is config.cache
    assert cache.serialize() == b"timed"
    # from 10 on TensorRT itself makes an empty cache of garbage, with a warning; ours is checked before it gets there
    assert taken == (content == b"garbage" and not version.startswith("8"))


def test_bfloat16_is_refused_where_there_is_none():
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.0 has no bfloat16 .*float16"):
        dialect.check_precision(bindings_of("8.6.0"), "bfloat16", (87,))
    with pytest.raises(EngineError, match="SM 75 has no bfloat16"):
        dialect.check_precision(bindings_of("10.3.0"), "bfloat16", (75,))
    for version in VERSIONS[1:]:
        dialect.check_precision(bindings_of(version), "bfloat16", (87,))


def test_weights_in_few_bits_are_refused_where_they_cannot_be_read():
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.0 cannot read weights in int8 \(10\.0 and up can\)"):
        dialect.check_weights(bindings_of("8.6.0"), "int8", (87,))
    with pytest.raises(EngineError, match=r"cannot read weights in nvfp4 \(10\.8 and up can\)"):
        dialect.check_weights(bindings_of("10.3.0"), "nvfp4", (110,))
    with pytest.raises(EngineError, match=r"SM 87 has no fp8 \(89 and up has\).*--weights int"):
        dialect.check_weights(bindings_of("10.3.0"), "fp8", (87,))
    dialect.check_weights(bindings_of("8.6.0"), "float", (87,))
    with pytest.raises(EngineError, match=r"8\.6\.0 cannot take keys and values in int8 .*--kv-cache float"):
        dialect.check_kv_cache(bindings_of("8.6.0"), "int8")
    dialect.check_kv_cache(bindings_of("8.6.0"), "float")
    dialect.check_kv_cache(bindings_of("10.3.0"), "int8")
    for version in VERSIONS[1:]:
        dialect.check_weights(bindings_of(version), "int4", (87,))


def test_half_precision_by_flag_is_refused_for_a_graph_without_any(tmp_path):
    spec = write_block(tmp_path / "block.onnx", "float32")
    with pytest.raises(EngineError, match="says float16 and no layer"):
        built("8.6.0", tmp_path / "block.onnx", spec, "float16")


@pytest.mark.parametrize(("version", "operator"), [("8.6.0", "Gelu"), ("10.3.0", "NonZero")])
def test_a_parser_error_names_node_operator_opset_and_version(version, operator, tmp_path):
    spec = write_block(tmp_path / "block.onnx", opset=20, extra=operator)
    with pytest.raises(EngineError) as caught:
        built(version, tmp_path / "block.onnx", spec, "float32")
    text = str(caught.value)
    assert f"TensorRT {version} cannot parse block.onnx (opset 20): node 'last' ({operator})" in text
    assert ("up to opset 17" in text) == (version == "8.6.0")


def test_a_network_that_is_not_the_specs_is_refused_with_every_difference(tmp_path):
    bindings = bindings_of("10.3.0")
    write_block(tmp_path / "block.onnx", "float16")
    network = bindings.module.Builder(None).create_network(2)
    parse(bindings, network, None, Messages(), tmp_path / "block.onnx", block_spec("float16"))
    with pytest.raises(EngineError) as caught:
        check_network(bindings, network, block_spec("bfloat16"))
    assert "input 'hidden': wanted bfloat16 ['T', 9, 16], got float16 [-1, 9, 16]" in str(caught.value)
    with pytest.raises(EngineError, match=r"input 'token_ids' is missing.*output 'out' is not in the spec"):
        check_network(bindings, network, decoder_spec())
    network.inputs[0].shape = (4, 9, 16)
    with pytest.raises(EngineError, match=r"got float16 \[4, 9, 16\]"):
        check_network(bindings, network, block_spec("float16"))
    network.inputs[0].shape = (-1, 9, 16)
    network.inputs[0].is_shape_tensor = True
    with pytest.raises(EngineError, match="decides a shape by its value"):
        check_network(bindings, network, block_spec("float16"))
