"""Figures of a card that its target cannot know."""

import pytest

from stts_export.estimate.card import with_card
from stts_export.recipe.target import read_target
from stts_runtime.errors import UsageError


def test_missing_figures_are_named_with_where_to_find_them():
    with pytest.raises(UsageError) as caught:
        with_card(read_target("rtx"), "float16", bandwidth_gb_per_s=1008)
    message = str(caught.value)
    assert "--memory GIB: `nvidia-smi" in message
    assert "dense peak for float16 products (half of a figure with sparsity)" in message
    assert "--bandwidth" not in message


def test_a_cpu_is_not_asked_for_what_nvidia_smi_says():
    with pytest.raises(UsageError) as caught:
        with_card(read_target("cpu"), "float32")
    message = str(caught.value)
    assert "--memory GIB: main memory, `free -g`" in message
    assert "cores x clock x FLOPs a clock in float32" in message
    assert "nvidia-smi" not in message
    assert "data sheet" not in message


def test_given_figures_stand_in_for_the_targets_own():
    card = with_card(read_target("rtx"), "bfloat16", memory_gib=24, bandwidth_gb_per_s=1008, tflops=165)
    assert (card.memory_gib, card.bandwidth_gb_per_s, card.peak_tflops.bfloat16) == (24, 1008, 165)
    assert with_card(read_target("h100"), "float16", tflops=744).peak_tflops.float16 == 744


def test_a_target_that_knows_its_figures_needs_none():
    assert with_card(read_target("l4"), "float16") == read_target("l4")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_figure_that_cannot_be_is_refused(value):
    with pytest.raises(UsageError, match=r"--memory is .*, wanted a number above 0"):
        with_card(read_target("l4"), "float16", memory_gib=value)
