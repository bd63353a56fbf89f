"""What is read out of a detailed log: kernels, plugins, and tensors as large as a mask."""

import pytest

from stts_runtime.errors import EngineError
from stts_runtime.trt.inspection import inspection_of
from stts_runtime.trt.messages import Messages


def value(name, *sizes):
    return f"{{ Name: {name}, Dimensions: [{','.join(map(str, sizes))}], Datatype: Half, Format: (Linear) }}"


def layer(name, inputs, outputs):
    given, made = ", ".join(inputs), ", ".join(outputs)
    return f"Name: {name}, LayerType: kgen, Inputs: [ {given}], Constants: [], Outputs: [ {made}]"


TOKENS, MASK = value("tokens", 1, -1, 64), value("mask", 1, 1, -1, -1)
LAYERS = (
    layer("__mye_mask_myl0_0", [TOKENS], [MASK]),
    layer("_gemm_mha_v2_myl0_1", [TOKENS, MASK], [TOKENS]),
    layer("SttsVisionPrefixAttention_80_myl0_10", [TOKENS], [TOKENS]),
    layer("SttsVisionPrefixAttention_80 [profile 1]_myl1_10", [TOKENS], [TOKENS]),
    layer("SttsPackTokens_3_myl0_2", [TOKENS], [TOKENS]),
)
BINDINGS = """
 Name: out, IOMode: Output, DataType: Half, Dimensions: [-1,64], MinShape: [], OptShape: [], MaxShape: []
"""


def dump(*layers):
    return "Layers:\n" + "\n".join(layers) + "\nI/O Tensors:" + BINDINGS


def test_attention_plugins_and_masks_are_counted():
    found = inspection_of(dump(*LAYERS), (30, 7))
    assert (found.layers, found.fused_attention) == (5, 1)
    assert found.plugins == {"SttsVisionPrefixAttention": 2, "SttsPackTokens": 1}
    assert found.squares == 1  # the mask, which two layers name
    assert found.activation_bytes == (30, 7)


def test_without_a_mask_there_is_none():
    found = inspection_of(dump(*LAYERS[2:]))
    assert (found.squares, found.fused_attention, found.activation_bytes) == (0, 0, ())


def constant(name, dtype, *sizes):
    return value(name, *sizes).replace("Half", dtype)


def reading(inputs, *constants):
    read = layer("__myl_CastMulFc_myl0_4", inputs, [TOKENS])
    return read.replace("Constants: []", f"Constants: [ {', '.join(constants)}]")


def test_matrices_of_few_bits_count_as_fused_where_their_layer_reads_something_else_too():
    int4, scales = constant("up", "Int4", 1, 64, 96), value("scales", 1, 2, 96)
    fp4, fp8 = constant("down", "FP4E2M1", 1, 96, 64), constant("down_scales", "FP8", 1, 6, 64)
    merged = [constant(name, "FP8", 1, 64, 96) for name in ("gate", "up")]
    found = inspection_of(dump(*LAYERS, reading([TOKENS], int4, scales), reading([], fp4, fp8), reading([], *merged)))
    assert (found.rounded_fused, found.rounded_apart) == (1, 3)
    found = inspection_of(dump(*LAYERS))
    assert (found.rounded_fused, found.rounded_apart) == (0, 0)


def test_a_log_of_another_kind_is_refused():
    with pytest.raises(EngineError, match="does not describe the engine as expected"):
        inspection_of("Layers:\nnothing")


def test_each_profiles_memory_is_told_in_its_order():
    messages = Messages()
    for text in (
        "Max Scratch Memory: 5 bytes",
        "Total Activation Memory: 30 bytes",
        "Total Activation Memory: 7 bytes",
    ):
        messages.add(3, text)
    assert messages.activations() == (30, 7)
    assert messages.figures() == {"scratch_bytes": 5, "activation_bytes": 30}
