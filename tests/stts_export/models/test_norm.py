import torch
from transformers.models.molmo2.modeling_molmo2 import Molmo2RMSNorm

from stts_export.models.norm import RMSNorm


def test_norm_agrees_with_transformers() -> None:
    ours, theirs = RMSNorm(32, 1e-6), Molmo2RMSNorm(32, 1e-6)
    ours.weight.data = theirs.weight.data = torch.randn(32)
    hidden = torch.randn(5, 32)
    torch.testing.assert_close(ours(hidden), theirs(hidden), rtol=0, atol=1e-6)


def test_norm_in_half_precision_survives_values_whose_squares_overflow() -> None:
    norm = RMSNorm(32, 1e-6).half()
    normed = norm(torch.full((1, 32), 6e4, dtype=torch.float16))
    assert normed.dtype == torch.float16
    assert torch.equal(normed, torch.ones_like(normed))
