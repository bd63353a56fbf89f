import pytest
import torch

from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.errors import UsageError
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import HEAD, INT4, INT8, INT8_ROWS, decoder_roundings, roundings
from stts_export.quantise.rounding import rounded
from stts_export.recipe.read import read_model_recipe


NANO = read_model_recipe("nano").config
BLOCK_0, PACKED = "decoder.blocks.0", f"vision_tower.blocks.{NANO.tower.first_packed_block}"


def test_nothing_is_rounded_unasked():
    assert roundings(NANO, "float") == {}


def test_a_decoders_matrices_are_rounded_and_its_head_in_8_bits():
    for weights, linear, down in (("int8", INT8_ROWS, INT8), ("int4", INT4, INT4)):
        found = roundings(NANO, weights)
        assert found["decoder.embedding.weight"] == HEAD
        assert (found[f"{BLOCK_0}.mlp.up.weight"], found[f"{BLOCK_0}.mlp.down.weight"]) == (linear, down)
        assert {name.partition(".")[0] for name in found} == {"decoder"}
        assert not any("norm" in name or name.endswith("bias") for name in found)


def test_a_matrix_whose_rows_are_no_whole_blocks_stays_in_floats():
    shapes = {"decoder.blocks.0.mlp.up.weight": (64, 48), "decoder.blocks.0.mlp.down.weight": (64, 48)}
    assert decoder_roundings(shapes, "int4") == {}
    assert decoder_roundings(shapes, "int8") == {"decoder.blocks.0.mlp.up.weight": INT8_ROWS}


def test_of_the_vision_side_what_lies_behind_the_scorer_is_rounded():
    found = roundings(NANO, "float", "int8")
    assert set(found.values()) == {INT8_ROWS}
    assert f"{PACKED}.mlp.up.weight" in found
    assert "connector.projector.down.weight" in found
    before = tuple(f"vision_tower.blocks.{i}." for i in range(NANO.tower.first_packed_block))
    assert not any(name.startswith((*before, "scorer.", "vision_tower.p")) for name in found)


@pytest.mark.parametrize("pattern", [f"{BLOCK_0}.mlp.*", "decoder.*.0.mlp.up.weight", f"{BLOCK_0}.mlp.up"])
def test_what_is_to_stay_in_floats_is_named_by_weight_module_or_pattern(pattern):
    kept = roundings(NANO, "int4", keep_float=(pattern,))
    assert f"{BLOCK_0}.mlp.up.weight" not in kept
    assert (f"{BLOCK_0}.mlp.down.weight" in kept) == ("up" in pattern)
    assert "decoder.blocks.1.mlp.up.weight" in kept


def test_a_pattern_that_matches_nothing_is_told():
    with pytest.raises(UsageError, match=r"--keep-float decoder.block.0 matches no weight.*such as decoder\."):
        roundings(NANO, "int8", keep_float=("decoder.*.up", "decoder.block.0"))


def test_a_rounded_checkpoint_is_read_as_what_its_numbers_stand_for(monkeypatch):
    monkeypatch.setattr("stts_export.quantise.checkpoint.ROWS", 5)
    own = torch.randn(12, 64, generator=torch.Generator().manual_seed(0)).half()
    tensors = {name: LazyTensor(tuple(own.shape), own.dtype, "test", lambda: own) for name in ("a", "b")}
    checkpoint = as_rounded(Checkpoint("native", None, tensors, has_scorer=False), {"a": INT4})
    torch.testing.assert_close(checkpoint.tensors["a"].read(), rounded(own, INT4).floats(), rtol=0, atol=0)
    assert checkpoint.tensors["a"].source == "test in int4"
    assert checkpoint.tensors["b"] is tensors["b"]
