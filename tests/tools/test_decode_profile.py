"""What the tool says of a toy bundle's decode step, and how it sums up what onnxruntime's profiler tells."""

import re
import runpy
import sys
from pathlib import Path


TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "decode_profile.py"))


def event(name, operator, duration, *shape):
    given = [{"float": list(shape)}] if shape else []
    return {"name": name, "dur": duration, "args": {"op_name": operator, "output_type_shape": given}}


def test_runs_of_a_node_are_one_and_products_of_one_shape_are_summed():
    runs = [event("a", "MatMul", 1000, 1, 8), event("a", "MatMul", 3000, 1, 8), event("b", "MatMul", 500, 1, 8)]
    table = TOOL["node_table"]([*runs, event("c", "Add", 250)])
    assert [line.split() for line in table.splitlines()] == [
        ["2.000", "ms", "2", "MatMul", "1x8"],
        ["0.250", "ms", "1", "Add"],
        ["2.250", "ms", "3", "all"],
    ]


def test_kinds_beyond_those_shown_are_summed():
    events = [event(str(place), f"Kind{place}", 1000) for place in range(TOOL["SHOWN"] + 3)]
    assert TOOL["node_table"](events).splitlines()[-2].split() == ["3.000", "ms", "3", "others"]


def test_a_bundles_step_is_timed_and_taken_apart(toy_bundle, monkeypatch, capsys):
    path = toy_bundle("dense")
    options = ["--prompt", "20", "--steps", "3", "--rounds", "1", "--first-token", "1"]
    monkeypatch.setattr(sys, "argv", ["decode_profile.py", str(path), *options])
    monkeypatch.setenv("STTS_THREADS", "")  # which the tool sets, and is put back
    monkeypatch.setitem(TOOL["main"].__globals__, "SHOWN", 100)  # which are the dearest is not the same every time
    TOOL["main"]()
    held, first, *table = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"own memory of all decoders: \d+ MiB", held)
    opened = r"opened in \d+\.\d s, by the clock \d+\.\d s"
    assert re.fullmatch(rf"{path.name}: step \d+\.\d\d ms, of it outside \d+\.\d\d; prefill \d+ ms; {opened}", first)
    kinds = {line.split()[3]: int(line.split()[2]) for line in table}
    assert (kinds["RotaryEmbedding"], kinds["Softmax"]) == (4, 2)  # of two blocks
