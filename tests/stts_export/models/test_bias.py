import math

import torch

from stts_export.models.bias import soft_bias
from stts_runtime.bundle.manifest import Grid


GRID = Grid(image_size=378, patch_size=14, pool=3)


def transcription(scores, first_frames):
    """The rescaling as the paper's words say it: repeat to the patch map, then row by row."""
    floor = math.e**-2
    maps = scores.reshape(-1, 9, 9).repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    low, high = maps.min(dim=2, keepdim=True).values, maps.max(dim=2, keepdim=True).values
    rescaled = floor + (maps - low) * (1 - floor) / (high - low + 1e-6)
    rescaled = torch.stack([torch.ones_like(m) if t in first_frames else m for t, m in enumerate(rescaled)])
    return rescaled.log().reshape(len(scores), -1)


def scores_of(frames):
    return torch.rand(frames, 81, generator=torch.Generator().manual_seed(frames))


def test_the_bias_is_the_log_of_scores_rescaled_by_patch_row():
    scores = scores_of(5)
    gate = torch.tensor([0.0, 1, 1, 0, 1])
    torch.testing.assert_close(soft_bias(scores, gate, GRID), transcription(scores, {0, 3}))


def test_each_row_spans_minus_two_to_zero_and_gated_frames_are_zero():
    bias = soft_bias(scores_of(2), torch.tensor([0.0, 1]), GRID)
    assert (bias[0] == 0).all()
    rows = bias[1].reshape(27, 27)
    torch.testing.assert_close(rows.amin(dim=1), torch.full((27,), -2.0))
    torch.testing.assert_close(rows.amax(dim=1), torch.zeros(27), atol=1e-5, rtol=0)


def test_equal_scores_in_a_row_give_a_finite_bias():
    assert soft_bias(torch.full((1, 81), 0.3), torch.ones(1), GRID).isfinite().all()


def test_minimum_and_maximum_carry_gradient():
    ours, theirs = scores_of(3).double().requires_grad_(), scores_of(3).double().requires_grad_()
    weight = torch.randn(3, 729, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    (soft_bias(ours, torch.tensor([0.0, 1, 1], dtype=torch.float64), GRID) * weight).sum().backward()
    (transcription(theirs, {0}) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
