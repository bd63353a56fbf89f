"""The estimator beside published figures: the table, its errors, and the efficiencies that come from it."""

from pathlib import Path
from statistics import median

import pytest

from stts_export.cli import main
from stts_export.estimate import count
from stts_export.estimate.comparison import compare, family, fit, implied, tower_work
from stts_export.estimate.efficiency import efficiency_table
from stts_export.estimate.published import published
from stts_export.estimate.tables import AIM, error_table, median_error, published_table
from stts_export.recipe.read import read_model_recipe
from stts_export.recipe.target import all_targets, read_target
from stts_export.report.tables import markdown_table
from stts_runtime.text_table import Rows


DOC = Path(__file__).parents[3] / "docs" / "estimate.md"
ROWS = published().rows
TIMES = [one for one in compare() if one.row.stage != "memory"]


def test_times_are_predicted_within_a_quarter_also_with_the_row_left_out():
    assert median_error([one.fitted_ratio for one in TIMES]) < AIM
    assert median_error([one.left_out_ratio for one in TIMES]) < AIM


def test_a_row_left_out_has_no_part_in_its_own_prediction():
    """Falsifying one row changes what is fitted, and never what is predicted with that row left out."""
    from dataclasses import replace

    row = next(row for row in ROWS if row.device == "jetson-thor" and row.stage == "vision")
    place = ROWS.index(row)
    wrong = (*ROWS[:place], replace(row, value=row.value * 10), *ROWS[place + 1 :])
    before, after = compare(ROWS)[place], compare(wrong)[place]
    assert after.left_out == pytest.approx(before.left_out)
    assert after.elsewhere == pytest.approx(before.elsewhere)
    assert after.fitted != pytest.approx(before.fitted)


def test_outliers_are_shown_and_explained_but_not_fitted():
    outliers = [one for one in compare() if one.row.outlier]
    assert [(one.row.device, one.row.weights, one.row.stage) for one in outliers] == [
        ("jetson-thor", "int4", "prefill")
    ]
    assert outliers[0].fitted_ratio < 0.7
    assert any(row[-1] == "outlier" for row in published_table(compare()).rows)


def test_no_row_beats_its_device():
    assert all(0.1 < implied(row) < 1 for row in ROWS if row.stage != "memory")


def test_the_table_of_efficiencies_is_the_fit():
    table = efficiency_table()
    for entry in table.families:
        found = (fit(ROWS, entry.name, stage) for stage in ("vision", "prefill", "decode"))
        assert (entry.vision, entry.prefill, entry.bandwidth) == tuple(round(value, 2) for value in found), entry.name
    assert table.runtime_megabytes == pytest.approx(fit(ROWS, "orin", "memory"), abs=5)


def test_the_cost_of_a_prefix_mask_comes_from_the_h100s_dense_prefills():
    """Time is linear work plus so many times attention work: two unknowns, three lengths, one answer."""
    rows = [row for row in ROWS if row.device == "h100" and row.stage == "prefill" and not row.prune]
    efficiencies = [implied(row) for row in rows]
    assert max(efficiencies) / min(efficiencies) == pytest.approx(1, abs=0.01)


def test_the_cost_of_a_segment_mask_lies_among_what_was_measured():
    """Four blocks at 32 frames: dense and masked ms, by TensorRT 8.6 and by onnxruntime, on one H100."""
    linear, attention = 2.84, 0.314  # TFLOP

    def cost(dense, masked):
        return (masked / (dense / (linear + attention)) - linear) / attention

    assert cost(9.5, 16.6) == pytest.approx(8.5, abs=0.2)
    assert cost(8.9, 11.0) == pytest.approx(3.4, abs=0.2)
    assert cost(8.9, 11.0) < efficiency_table().attention.segment < cost(9.5, 16.6)
    dense, pruned = (
        median(
            implied(row) for row in ROWS if row.device == "h100" and row.stage == "vision" and bool(row.prune) == way
        )
        for way in (False, True)
    )
    assert dense == pytest.approx(pruned, rel=0.05)


def test_every_target_gets_efficiencies_and_only_measured_families_are_named():
    table = efficiency_table()
    assert {table.of(target).name for target in all_targets()} == {"orin", "thor", "hopper", "others"}
    assert table.of(read_target("l4")).source.startswith("borrowed")
    assert {family(row) for row in ROWS} == {"orin", "thor", "hopper"}


def efficiency_rows():
    rows = tuple(
        (
            family.name,
            ", ".join(map(str, family.compute_capabilities)) or "any other",
            f"{family.vision:.2f}",
            f"{family.prefill:.2f}",
            f"{family.bandwidth:.2f}",
            family.source,
        )
        for family in efficiency_table().families
    )
    return Rows("Efficiencies", ("family", "SM", "vision", "prefill", "bandwidth", "source"), rows)


@pytest.mark.parametrize(
    "table", [published_table(compare()), error_table(compare()), efficiency_rows()], ids=lambda t: t.title
)
def test_the_page_holds_the_tables_as_they_are(table):
    assert markdown_table(table) in DOC.read_text(), (
        f"docs/estimate.md is out of date at {table.title!r}: paste what "
        "`stts-export estimate --published --markdown` prints"
    )


def test_the_command_prints_what_the_page_holds(capsys):
    assert main(["estimate", "--published", "--markdown"]) == 0
    printed = capsys.readouterr().out
    for table in (published_table(compare()), error_table(compare())):
        assert markdown_table(table) in printed
    assert "outlier: jetson-thor qwen3-vl-4b int4 prefill" in printed


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"])
def test_published_rows_are_counted_with_the_real_models_sizes(name):
    """A picture is not two frames, so a temporal patch of the recipe's size stands for one of as many tokens."""
    config, shape = read_model_recipe(name).config, published().models[name]
    ours = config.decoder
    sizes = ("layers", "width", "heads", "kv_heads", "mlp_width", "vocabulary", "head_dim")
    assert [getattr(shape.decoder, size) for size in sizes] == [getattr(ours, size) for size in sizes]
    counted = tower_work(published().towers[shape.vision], config.grid.groups).flops
    assert counted == pytest.approx(count.vision_dense(config, 1).flops, rel=0.03)
