from dataclasses import replace

import pytest
import torch

from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.errors import UsageError
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import (
    FP8_ROWS,
    INT4,
    INT4_BLOCKS,
    INT8,
    INT8_ROWS,
    NVFP4,
    Q4_1,
    choice_of,
    decoder_roundings,
    roundings,
    tower_weights_of,
)
from stts_export.quantise.rounding import rounded
from stts_export.recipe.read import read_model_recipe


NANO = read_model_recipe("nano").config
BLOCK_0 = "decoder.blocks.0"
CPU_INT4 = choice_of("onnxruntime", "int4", "float32")


def test_a_tower_has_few_bits_where_its_decoder_has_on_a_cpu_unless_something_else_is_asked():
    assert tower_weights_of(None, "int4", "onnxruntime") == "int8"
    assert tower_weights_of("float", "int4", "onnxruntime") == "float"
    assert tower_weights_of(None, "float", "onnxruntime") == "float"
    assert tower_weights_of("int8", "float", "onnxruntime") == "int8"
    assert tower_weights_of(None, "int4", "tensorrt") == "float"


def test_nothing_is_rounded_unasked():
    assert roundings(NANO, choice_of("onnxruntime", "float", "float32")) == {}


def test_a_decoders_matrices_are_rounded_and_its_head_in_8_bits():
    for weights, linear, down in (("int8", INT8_ROWS, INT8), ("int4", INT4, INT4), ("q4_1", Q4_1, Q4_1)):
        found = roundings(NANO, choice_of("onnxruntime", weights, "float32"))
        assert found["decoder.embedding.weight"] == INT8
        assert (found[f"{BLOCK_0}.mlp.up.weight"], found[f"{BLOCK_0}.mlp.down.weight"]) == (linear, down)
        assert {name.partition(".")[0] for name in found} == {"decoder"}
        assert not any("norm" in name or name.endswith("bias") for name in found)


def test_a_matrix_whose_rows_are_no_whole_blocks_stays_in_floats():
    shapes = {"decoder.blocks.0.mlp.up.weight": (64, 48), "decoder.blocks.0.mlp.down.weight": (64, 48)}
    assert decoder_roundings(shapes, CPU_INT4) == {}
    assert decoder_roundings(shapes, choice_of("onnxruntime", "int8", "float32")) == {
        "decoder.blocks.0.mlp.up.weight": INT8_ROWS
    }


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_tensorrt_has_scales_in_the_graphs_precision_and_a_head_in_floats(backend, precision):
    for weights, linear in (("int8", INT8_ROWS), ("int4", INT4_BLOCKS), ("fp8", FP8_ROWS), ("nvfp4", NVFP4)):
        found = roundings(NANO, choice_of(backend, weights, precision))
        scales = "float8" if linear is NVFP4 else precision
        assert set(found.values()) == {replace(linear, scales=scales)}
        assert f"{BLOCK_0}.mlp.down.weight" in found
        assert "decoder.embedding.weight" not in found


def test_of_the_vision_side_blocks_and_connector_are_rounded_and_the_scorer_is_not():
    found = roundings(NANO, None, "int8")
    assert set(found.values()) == {INT8_ROWS}
    for block in range(NANO.tower.blocks):
        assert f"vision_tower.blocks.{block}.mlp.up.weight" in found
    assert "connector.projector.down.weight" in found
    assert not any(name.startswith(("scorer.", "vision_tower.p")) for name in found)


@pytest.mark.parametrize("pattern", [f"{BLOCK_0}.mlp.*", "decoder.*.0.mlp.up.weight", f"{BLOCK_0}.mlp.up"])
def test_what_is_to_stay_in_floats_is_named_by_weight_module_or_pattern(pattern):
    kept = roundings(NANO, CPU_INT4, keep_float=(pattern,))
    assert f"{BLOCK_0}.mlp.up.weight" not in kept
    assert (f"{BLOCK_0}.mlp.down.weight" in kept) == ("up" in pattern)
    assert "decoder.blocks.1.mlp.up.weight" in kept


def test_a_pattern_that_matches_nothing_is_told():
    with pytest.raises(UsageError, match=r"--keep-float decoder.block.0 matches no weight.*such as decoder\."):
        roundings(NANO, CPU_INT4, keep_float=("decoder.*.up", "decoder.block.0"))


def test_a_rounded_checkpoint_is_read_as_what_its_numbers_stand_for(monkeypatch):
    monkeypatch.setattr("stts_export.quantise.rounding.PIECE_ELEMENTS", 5 * 64)
    own = torch.randn(12, 64, generator=torch.Generator().manual_seed(0)).half()
    tensors = {name: LazyTensor(tuple(own.shape), own.dtype, "test", lambda: own) for name in ("a", "b")}
    checkpoint = as_rounded(Checkpoint("native", None, tensors, has_scorer=False), {"a": INT4})
    torch.testing.assert_close(checkpoint.tensors["a"].read(), rounded(own, INT4).floats(), rtol=0, atol=0)
    assert checkpoint.tensors["a"].source == "test in int4"
    assert checkpoint.tensors["b"] is tensors["b"]
