import json

import pytest
from reference.reports import FAILING, FINE, TIES, report_of

from stts_runtime.errors import VerificationError
from stts_runtime.verify.report import SKIPPED, CaseResult, Comparison, report_from_json, report_json


def test_a_report_says_where_the_bundle_first_departs():
    result, departure = FAILING.first_departure
    assert (result.part, departure.name) == ("vision_encode", "vision_tower.blocks.1")
    assert not FAILING.ok
    assert FAILING.verdict == "vision_encode departs from the model at vision_tower.blocks.1 (bins 0 to 3): off"


def test_a_good_report_has_no_departure():
    assert FINE.ok
    assert FINE.first_departure is None
    assert FINE.verdict == "agrees with the model on 2 runs"


def test_a_report_in_which_nothing_was_compared_is_not_good():
    for empty in (report_of(), report_of(CaseResult("decoder", "prefill", ()))):
        assert not empty.ok
        assert empty.verdict == "nothing was compared"


def test_what_was_skipped_is_no_agreement_and_is_said_with_its_reason():
    assert TIES.ok
    end = TIES.results[-1]
    assert (end.compared, len(end.comparisons)) == (1, 2)
    assert TIES.verdict == "agrees with the model on 2 runs, 1 comparison skipped: features (of other groups)"


def test_a_run_of_which_everything_was_skipped_does_not_pass():
    skipped = CaseResult("decoder", "prefill", (Comparison("logits", SKIPPED, message="no reason"),))
    assert not skipped.ok
    assert report_of(skipped).verdict == "nothing was compared"
    report = report_of(*FINE.results, skipped)
    assert not report.ok
    assert report.verdict == "nothing was compared in decoder, prefill"


@pytest.mark.parametrize("report", [FINE, TIES, FAILING])
def test_json_gives_the_report_back(report):
    assert report_from_json(report_json(report)) == report


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
    for schema in (1, 9):
        with pytest.raises(VerificationError, match=rf"schema {schema}.*verify the bundle again"):
            report_from_json(json.dumps({**data, "schema": schema}))
    with pytest.raises(VerificationError, match="did you mean 'engine'"):
        report_from_json(json.dumps({**data, "engin": 9}))
