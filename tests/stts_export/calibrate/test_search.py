import pytest
import torch

from stts_export.calibrate.search import Inputs, find_scales
from stts_export.errors import CheckpointError
from stts_export.quantise.rounding import Rounding, rounded
from stts_export.quantise.scaling import Fold


ROUNDING = Rounding(4, 32)
PLAIN = Fold("norm", 64, ("norm.weight",), ("gate.weight", "up.weight"))
HEADS = Fold("value", 32, ("value.weight",), ("output.weight",), sharing=2, head_dim=16)


def inputs(columns, largest=50.0):
    rows = torch.randn(200, columns, generator=torch.Generator().manual_seed(1))
    rows[:, 3] *= largest
    return Inputs(rows, rows.abs().mean(0))


def weights(fold, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(48, fold.channels * fold.sharing, generator=generator) for name in fold.reads}


@pytest.mark.parametrize("fold", [PLAIN, HEADS], ids=lambda fold: fold.name)
def test_a_channel_that_is_large_is_given_the_finer_steps(fold):
    given = weights(fold)
    read = inputs(fold.channels * fold.sharing)
    found = find_scales(fold, read, given, dict.fromkeys(fold.reads, ROUNDING))
    assert int(found.scales.argmax()) == 3
    assert found.loss < 0.5 * found.unscaled
    columns = fold.spread(found.scales)
    loss = 0.0
    for weight in given.values():
        product = (read.rows / columns) @ rounded(weight * columns, ROUNDING).floats().T
        loss += float((product - read.rows @ weight.T).square().sum())
    assert loss == pytest.approx(found.loss, rel=1e-3)


def test_heads_that_share_a_value_share_its_scales():
    scales = torch.arange(32.0)
    columns = HEADS.spread(scales)
    torch.testing.assert_close(columns[:16], columns[16:32], rtol=0, atol=0)
    torch.testing.assert_close(HEADS.gathered(columns), scales, rtol=0, atol=0)


def test_inputs_that_are_rounded_by_rows_are_evened_out():
    given, read = weights(PLAIN), inputs(64)
    found = find_scales(PLAIN, read, given, dict.fromkeys(PLAIN.reads, Rounding(8, None)))
    assert int(found.scales.argmax()) == 3
    assert found.loss < 0.1 * found.unscaled


def test_weights_that_lie_on_their_grid_stay_there():
    given = {name: rounded(weight, ROUNDING).floats() for name, weight in weights(PLAIN).items()}
    found = find_scales(PLAIN, inputs(64), given, dict.fromkeys(given, ROUNDING))
    assert bool((found.scales == 1).all())


def test_scales_that_are_not_finite_are_told_with_their_layer():
    read = inputs(64)
    overflown = Inputs(read.rows, torch.where(torch.arange(64) == 3, torch.inf, read.mean))
    with pytest.raises(CheckpointError, match=r"norm: its scales are not finite.*--keep-float gate.weight up.weight"):
        find_scales(PLAIN, overflown, weights(PLAIN), dict.fromkeys(PLAIN.reads, ROUNDING))
    broken = weights(PLAIN)
    broken["up.weight"][0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"up.weight: 1 of 3072 values are NaN"):
        find_scales(PLAIN, read, broken, dict.fromkeys(PLAIN.reads, ROUNDING))
