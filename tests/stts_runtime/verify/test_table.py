from dataclasses import replace

from reference.reports import FAILING, FINE, TIES

from stts_runtime.verify.table import report_text


def test_a_good_report_has_a_row_for_each_run_and_the_lines_of_end_to_end():
    text = report_text(FINE)
    assert "toy on onnxruntime 1.32.0, float32, against torch, toy" in text
    assert "vision_tower.blocks.0" not in text
    assert "keep set" in text
    assert text.endswith("note: a note\nok: agrees with the model on 2 runs\n")


def test_a_failing_report_shows_the_lines_of_what_failed_and_says_where_it_departs():
    text = report_text(FAILING)
    runs = text.split("\n\n")[0].splitlines()
    assert [line.split(",")[0] for line in runs[2:]] == ["vision_score", "vision_encode", "end_to_end"]
    assert "FAIL  departs first: vision_tower.blocks.1" in runs[3]
    assert text.count("4 of 8 values compared are NaN or infinite") == 1
    assert text.count("end_to_end, frames to tokens") == 2  # its row, and its own table
    assert text.endswith("FAILED: vision_encode departs from the model at vision_tower.blocks.1 (bins 0 to 3): off\n")


def test_everything_shows_the_lines_of_runs_that_hold_too():
    assert report_text(FAILING).count("vision_tower.blocks.0") == 1
    assert report_text(FAILING, everything=True).count("vision_tower.blocks.0") == 2


def test_ties_and_what_was_skipped_are_shown_as_such():
    text = report_text(TIES)
    assert "1 compared, 1 skipped" in text
    assert "tied     2 groups differ" in text
    assert "skipped  of other groups" in text
    assert text.endswith("ok: agrees with the model on 2 runs, 1 comparison skipped: features (of other groups)\n")


def test_every_comparison_of_end_to_end_is_shown():
    image = replace(FINE.results[-1], case="image to tokens")
    text = report_text(replace(FINE, results=(*FINE.results, image)))
    assert text.count("frames to tokens") == text.count("image to tokens") == 2  # its row, and its own table
