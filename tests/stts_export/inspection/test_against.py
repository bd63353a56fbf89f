"""Inspected engines as tables: one bundle's, and beside another's."""

from dataclasses import replace

import pytest

from stts_export.inspection.against import comparison_rows
from stts_export.inspection.engines import EngineInspection
from stts_export.inspection.table import inspection_rows


MIB = 1 << 20
PORTABLE = EngineInspection(
    part="decoder",
    compute_capabilities=(86,),
    precision="float16",
    size=100 * MIB,
    parameter_bytes=90 * MIB,
    attentions=4,
    fused_attentions=4,
    plugins=0,
    plugin_layers=0,
    squares=2,
    scratch_bytes=MIB,
    activation_bytes=(240 * MIB, 20 * MIB),
    seconds=8.0,
    processor_seconds=4.0,
    peak_memory_bytes=None,
)
PLUGIN = replace(
    PORTABLE, plugins=4, plugin_layers=4, squares=0, activation_bytes=(96 * MIB, 10 * MIB), processor_seconds=2.0
)


def test_each_profile_is_a_row_with_both_figures_and_their_ratio():
    table = comparison_rows([PLUGIN], [PORTABLE], "portable.stts")
    assert table.title == "beside portable.stts"
    assert table.rows == (
        ("decoder prefill", "86", "96.0 / 240.0 (0.40x)", "100.0 / 100.0 (1.00x)", "0 / 2", "2.0 / 4.0 (0.50x)"),
        ("decoder decode", "86", "10.0 / 20.0 (0.50x)", "", "", ""),
    )


def test_parts_that_only_one_has_are_left_out_and_memory_that_is_not_told_is_a_dash():
    select = replace(PLUGIN, part="vision_select")
    other_gpu = replace(PLUGIN, compute_capabilities=(120,))
    silent = replace(PLUGIN, activation_bytes=())
    table = comparison_rows([select, other_gpu, silent], [replace(PORTABLE, activation_bytes=())], "portable.stts")
    assert [row[:3] for row in table.rows] == [("decoder", "86", "-")]


@pytest.mark.parametrize(
    ("changes", "fused"),
    [
        ({}, True),
        ({"fused_attentions": 3}, False),
        ({"plugin_layers": 3}, False),
        ({"squares": 1}, False),
        ({"plugins": 0, "plugin_layers": 0, "squares": 2}, True),
    ],
)
def test_everything_is_fused_where_plugins_are_layers_and_make_no_mask(changes, fused):
    assert replace(PLUGIN, **changes).is_fused == fused


def test_the_table_has_a_cell_for_each_header_and_memory_by_profile():
    table = inspection_rows([PLUGIN, PORTABLE])
    assert {len(row) for row in table.rows} == {len(table.headers)}
    named = dict(zip(table.headers, table.rows[0], strict=True))
    assert (named["plugins"], named["masks"], named["activations MiB"]) == ("4 of 4", "0", "96.0 + 10.0")
