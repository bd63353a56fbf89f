import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from stts_export.errors import VerificationError
from stts_export.verify.compare import compare_rows, failed_line
from stts_export.verify.report import (
    REPORT,
    Line,
    Report,
    Rung,
    check_report,
    render_report,
    report_from_json,
    report_json,
    write_report,
)
from stts_export.verify.tolerances import ENGINE


TOLERANCE = ENGINE["float32"]
GOOD = Line("vision_tower.blocks.0", True, cosine=1.0, max_error=1e-6, p99_error=5e-7, relative_error=3e-7)
BAD = Line("vision_tower.blocks.1", False, cosine=0.98, max_error=0.5, p99_error=0.1, relative_error=0.2, message="off")
WORSE = failed_line("features", "4 of 8 values compared are NaN or infinite")
KEPT = Line("keep set", True, overlap=1.0)


def report_of(*rungs):
    return Report("toy", "torch, toy", "onnxruntime 1.32.0", "float32", rungs, notes=("a note",))


FINE = report_of(Rung("vision_dense", "frames 0 to 2", (GOOD,)), Rung("end_to_end", "frames to tokens", (KEPT,)))
FAILING = report_of(
    Rung("vision_score", "frames 0 to 2", (GOOD,)),
    Rung("vision_encode", "bins 0 to 3", (GOOD, BAD, WORSE)),
    Rung("end_to_end", "frames to tokens", (replace(KEPT, ok=False, overlap=0.5),)),
)


def rendered(report, layers=True):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(render_report(report, layers))
        return console.export_text()


def rows(count=8, width=16):
    return np.random.default_rng(0).standard_normal((count, width)).astype(np.float32)


def compared(expected, got):
    return compare_rows("x", expected, got, float(np.abs(expected).max()), TOLERANCE)


def test_a_report_says_where_the_bundle_first_departs():
    rung, line = FAILING.first_departure
    assert (rung.part, line.name) == ("vision_encode", "vision_tower.blocks.1")
    assert not FAILING.ok
    with pytest.raises(VerificationError, match=r"vision_encode departs from the model at vision_tower\.blocks\.1"):
        check_report(FAILING)


def test_a_good_report_passes():
    assert FINE.ok
    assert FINE.first_departure is None
    check_report(FINE)


def test_a_report_in_which_nothing_was_compared_does_not_pass():
    for empty in (report_of(), report_of(Rung("decoder", "prefill", ()))):
        assert not empty.ok
        with pytest.raises(VerificationError, match="nothing was compared"):
            check_report(empty)


@pytest.mark.parametrize("report", [FINE, FAILING])
def test_json_gives_the_report_back(report, tmp_path):
    assert report_from_json(report_json(report)) == report
    write_report(tmp_path, report)
    assert (tmp_path / REPORT).read_text() == report_json(report)


def test_json_spells_the_verdict_out_for_machines():
    data = json.loads(report_json(FAILING))
    assert data["ok"] is False
    assert data["first_departure"] == {
        "part": "vision_encode",
        "case": "bins 0 to 3",
        "layer": "vision_tower.blocks.1",
    }
    assert json.loads(report_json(FINE))["first_departure"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', "\x00"])
def test_what_is_no_report_is_refused(text):
    with pytest.raises(VerificationError, match="not a verification report"):
        report_from_json(text)


def test_a_report_of_another_schema_or_with_unknown_keys_is_refused():
    data = json.loads(report_json(FINE))
    with pytest.raises(VerificationError, match="schema 9"):
        report_from_json(json.dumps({**data, "schema": 9}))
    with pytest.raises(VerificationError, match="did you mean 'engine'"):
        report_from_json(json.dumps({**data, "engin": 9}))


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


def test_equal_tensors_agree():
    line = compared(rows(), rows())
    assert (line.ok, line.cosine, line.max_error, line.relative_error) == (True, pytest.approx(1.0), 0.0, 0.0)


def test_errors_are_measured_against_the_largest_magnitude():
    expected = rows()
    got = expected.copy()
    got[3, 4] += 0.25
    line = compare_rows("x", expected, got, 1000.0, TOLERANCE)
    assert line.max_error == pytest.approx(0.25)
    assert line.relative_error == pytest.approx(0.25e-3)
    assert line.p99_error < line.max_error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_fail_and_leave_no_number_behind(value):
    got = rows()
    got[0, 0] = value
    line = compared(rows(), got)
    assert not line.ok
    assert "1 of 128 values" in line.message
    assert line.cosine is line.max_error is line.relative_error is None
    assert not report_of(Rung("decoder", "prefill", (line,))).ok


def test_another_shape_and_an_empty_tensor_fail():
    assert "shape [4, 16], wanted [8, 16]" in compared(rows(), rows(4)).message
    empty = compare_rows("x", rows(0), rows(0), 0.0, TOLERANCE)
    assert not empty.ok


def test_a_few_huge_channels_do_not_hide_a_wrong_row():
    expected = rows()
    expected[0] *= 1e5
    got = expected.copy()
    got[5] = -got[5]
    line = compared(expected, got)
    assert line.relative_error < TOLERANCE.relative
    assert not line.ok
    assert line.cosine == pytest.approx(-1.0)


def test_rows_of_rounding_noise_are_not_judged_by_their_direction():
    expected = rows()
    expected[5] *= 1e-8
    got = expected.copy()
    got[5] = -got[5]
    assert compared(expected, got).ok


def test_all_zero_tensors_agree_only_with_themselves():
    zero = np.zeros((2, 4), np.float32)
    assert compared(zero, zero).ok
    assert not compared(zero, zero + 1e-6).ok
