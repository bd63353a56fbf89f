import pytest
from reference.reports import FAILING, FINE, TIES, report_of
from rich.console import Console

from stts_export.verify.report import check_report, render_report, write_report
from stts_runtime.errors import VerificationError
from stts_runtime.verify.report import REPORT, report_json


def rendered(report, layers=True):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(render_report(report, layers))
        return console.export_text()


def test_a_failed_report_is_raised_with_its_verdict():
    with pytest.raises(VerificationError, match=r"vision_encode departs from the model at vision_tower\.blocks\.1"):
        check_report(FAILING)
    with pytest.raises(VerificationError, match="nothing was compared"):
        check_report(report_of())
    check_report(FINE)


def test_it_is_stored_as_json(tmp_path):
    write_report(tmp_path, FAILING)
    assert (tmp_path / REPORT).read_text() == report_json(FAILING)


def test_the_table_shows_every_layer_and_the_first_that_departs():
    text = rendered(FAILING)
    for name in ("vision_score, frames 0 to 2", "vision_tower.blocks.0", "keep set", "a note"):
        assert name in text
    marked = [line for line in text.splitlines() if "departs first" in line]
    assert len(marked) == 2  # one in each run that fails
    assert "vision_tower.blocks.1" in marked[0]
    assert "FAIL" in marked[0]
    assert "FAILED: vision_encode departs from the model at vision_tower.blocks.1 (bins 0 to 3): off" in text


def test_the_short_table_has_a_row_for_each_run_and_the_layers_of_the_first_that_fails():
    text = rendered(FINE, layers=False)
    assert "vision_tower.blocks.0" not in text
    assert "ok: agrees with the model on 2 runs" in text
    text = rendered(FAILING, layers=False)
    assert "departs first: vision_tower.blocks.1" in text
    assert "features" in text


def test_both_tables_show_ties_and_what_was_skipped():
    text = rendered(TIES)
    assert any("keep set" in line and "tied" in line for line in text.splitlines())
    assert any("features" in line and "skipped" in line and "of other groups" in line for line in text.splitlines())
    assert "1 compared, 1 skipped" in rendered(TIES, layers=False)
    assert "ok: agrees with the model on 2 runs, 1 comparison skipped: features (of other groups)" in text
