import pytest

from stts_runtime.bench.fresh import PassMemory
from stts_runtime.bench.measurement import Bench, comparisons, summarise
from stts_runtime.bench.table import text_report
from stts_runtime.timings import Timings


COUNTS = {"patches": 5832, "packed_patches": 3645, "groups": 648, "kept_groups": 324, "prompt_tokens": 429}


@pytest.fixture
def found():
    def measured(prune, memory=None, **times):
        return summarise("bundle", 8, prune, [Timings(times, {**COUNTS, "answer_tokens": 4})], (), memory)

    measurements = (
        measured(0.0, read_video=3.0, vision_dense=300.0, prefill=100.0, decode=40.0),
        measured(
            0.5,
            PassMemory(12.0, {"vision_score": 8.0, "prefill": 4.25}),
            read_video=3.0,
            vision_score=99.0,
            plan=1.0,
            vision_encode=60.0,
            prefill=40.0,
            decode=40.0,
        ),
    )
    return Bench(measurements, comparisons(measurements), ("the clip is short",))


def test_the_report_shows_times_tokens_memory_and_notes(found):
    text = text_report(found)
    lines = text.splitlines()
    assert lines[1].split() == [
        *("T", "engine", "variant", "read", "score", "plan", "encode", "dense", "prefill", "vision+prefill"),
        *("faster", "plan", "share", "a", "token"),
    ]
    assert lines[2].split() == ["8", "bundle", "dense", "3.0", "-", "-", "-", "300", "100", "400", "-", "-", "10.0"]
    assert lines[3].split() == [
        *("8", "bundle", "pruned", "50%", "3.0", "99.0", "1.0", "60.0", "-", "40.0", "200", "2.00x", "0.50%", "10.0"),
    ]
    assert "5832            3645     648" in text
    assert lines[-3].split() == ["8", "bundle", "pruned", "50%", "12.0", "8.0", "4.2"]
    assert lines[-1] == "note: the clip is short"


def test_dense_is_divided_by_pruned_stage_by_stage(found):
    lines = text_report(found).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("Dense by pruned"))
    assert lines[at + 1].split() == [
        *("T", "engine", "variant", "read", "prefill", "a", "token"),
        *("all", "vision", "vision+prefill"),
    ]
    assert lines[at + 2].split()[4:] == ["1.00x", "2.50x", "1.00x", "1.88x", "2.00x"]


def test_columns_stand_below_their_headers(found):
    header, *rows = text_report(found).splitlines()[1:4]
    assert {len(row) for row in rows} == {len(header)}


def test_without_memory_there_is_no_table_of_it(found):
    bare = Bench(found.measurements[:1], (), ())
    assert "MiB" not in text_report(bare)
