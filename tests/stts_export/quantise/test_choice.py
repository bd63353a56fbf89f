import pytest
import torch

from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.errors import UsageError
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import HEAD, INT4, INT8, roundings
from stts_export.quantise.rounding import rounded


SHAPES = {
    "vision_tower.blocks.0.mlp.up.weight": (64, 32),
    "decoder.embedding.weight": (40, 32),
    "decoder.blocks.0.mlp.up.weight": (64, 32),
    "decoder.blocks.0.mlp.down.weight": (32, 64),
    "decoder.blocks.0.attention.output.weight": (32, 48),
    "decoder.blocks.0.attention.query.bias": (32,),
    "decoder.norm.weight": (32,),
}


def test_the_decoders_matrices_are_rounded_whose_rows_are_whole_blocks():
    assert roundings(SHAPES, "float") == {}
    for weights, linear in (("int8", INT8), ("int4", INT4)):
        assert roundings(SHAPES, weights) == {
            "decoder.embedding.weight": HEAD,
            "decoder.blocks.0.mlp.up.weight": linear,
            "decoder.blocks.0.mlp.down.weight": linear,
        }


@pytest.mark.parametrize("pattern", ["decoder.blocks.0.mlp.*", "decoder.*.mlp.up.weight", "decoder.blocks.0.mlp.up"])
def test_what_is_to_stay_in_floats_is_named_by_weight_module_or_pattern(pattern):
    kept = roundings(SHAPES, "int4", (pattern,))
    assert "decoder.blocks.0.mlp.up.weight" not in kept
    assert ("decoder.blocks.0.mlp.down.weight" in kept) == ("up" in pattern)
    assert "decoder.embedding.weight" in kept


def test_a_pattern_that_matches_nothing_is_told():
    with pytest.raises(UsageError, match=r"--keep-float decoder.block.0 matches no weight.*decoder.embedding.weight"):
        roundings(SHAPES, "int8", ("decoder.*.up", "decoder.block.0"))


def test_a_rounded_checkpoint_is_read_as_what_its_numbers_stand_for(monkeypatch):
    monkeypatch.setattr("stts_export.quantise.checkpoint.ROWS", 5)
    own = torch.randn(12, 64, generator=torch.Generator().manual_seed(0)).half()
    tensors = {name: LazyTensor(tuple(own.shape), own.dtype, "test", lambda: own) for name in ("a", "b")}
    checkpoint = as_rounded(Checkpoint("native", None, tensors, has_scorer=False), {"a": INT4})
    torch.testing.assert_close(checkpoint.tensors["a"].read(), rounded(own, INT4).floats(), rtol=0, atol=0)
    assert checkpoint.tensors["a"].source == "test in int4"
    assert checkpoint.tensors["b"] is tensors["b"]
