from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from stts_export.report.tables import terminal_table
from stts_runtime.bench.fresh import PassMemory
from stts_runtime.bench.measurement import Bench, comparisons, summarise
from stts_runtime.bench.table import tables, text_report
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


def lines_of(found, title):
    lines = text_report(found).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(title))
    return [line.split() for line in lines[at + 1 : at + 4]]


def test_the_report_shows_times_tokens_memory_and_notes(found):
    header, dense, pruned = lines_of(found, "Milliseconds (medians)")
    assert header == ["T", "engine", "variant", "vision", "prefill", "all", "a", "token"]
    assert dense == ["8", "bundle", "dense", "300", "100", "400", "10.0"]
    assert pruned == ["8", "bundle", "pruned", "50%", "160", "40.0", "200", "10.0"]
    header, dense, pruned = lines_of(found, "bundle, milliseconds")
    assert header == ["T", "variant", "read", "score", "plan", "encode", "dense", "share"]
    assert pruned == ["8", "pruned", "50%", "3.0", "99.0", "1.0", "60.0", "-", "0.50%"]
    assert lines_of(found, "Tokens")[2] == ["8", "pruned", "50%", "5832", "3645", "648", "324", "429"]
    assert lines_of(found, "Memory")[1] == ["8", "bundle", "pruned", "50%", "12.0", "8.0", "4.2", "-"]
    assert text_report(found).splitlines()[-1] == "note: the clip is short"


def test_dense_is_divided_by_pruned(found):
    assert lines_of(found, "Dense by pruned")[1][4:] == ["1.88x", "2.50x", "2.00x", "1.00x"]


def test_bundles_beside_are_compared_with_the_first(found):
    dense = found.measurements[0]
    small = replace(dense, engine="bundle int4", token_ms=dense.token_ms / 4)
    both = replace(found, measurements=(*found.measurements, small))
    assert lines_of(both, "The bundle by")[1] == ["8", "bundle", "int4", "dense", "1.00x", "1.00x", "1.00x", "4.00x"]
    assert not any(line.startswith("The bundle by") for line in text_report(found).splitlines())


def test_no_table_is_wider_than_a_terminal(found):
    def large(one, engine):
        times = dict.fromkeys((*one.milliseconds, "preprocessing"), 123456.0)
        tokens = dict.fromkeys(one.tokens, 1234567)
        memory = PassMemory(12345.0, dict.fromkeys(times, 12345.0))
        return replace(
            one, engine=engine, frames=256, milliseconds=times, tokens=tokens, memory=memory, token_ms=1234.0
        )

    engines = ("bundle", "bundle int8/int8", "eager torch", "transformers")
    measured = tuple(large(one, engine) for engine in engines for one in found.measurements)
    report = text_report(Bench(measured, comparisons(measured), ()))
    assert max(map(len, report.splitlines())) <= 80
    console = Console(width=80, file=StringIO())
    for table in tables(Bench(measured, comparisons(measured), ())):
        assert console.measure(terminal_table(table)).maximum <= 80, table.headers


def test_columns_stand_below_their_headers(found):
    header, *rows = text_report(found).splitlines()[1:4]
    assert {len(row) for row in rows} == {len(header)}


def test_without_memory_there_is_no_table_of_it(found):
    bare = Bench(found.measurements[:1], (), ())
    assert "MiB" not in text_report(bare)
