#!/usr/bin/env python3
"""Write docs/json.md: what each command prints with --json, from the records that it prints.

    python tools/json_page.py > docs/json.md

A record's fields, their types and their meanings are read from its class and the comments beside them, so the page is
as true as the code; a test holds the page, and what commands print, to it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from stts_export.bench.run import BenchResult
from stts_export.conformance.run import ConformanceResult
from stts_export.data.leaks import Leak
from stts_export.demo.run import Demo
from stts_export.doctor.targets import Buildable
from stts_export.estimate.comparison import Comparison
from stts_export.estimate.estimate import Estimate
from stts_export.evaluate.compare import Agreement
from stts_export.evaluate.records import Evaluation
from stts_export.evaluate.summary import Summary
from stts_export.inspection.engines import EngineInspection
from stts_export.inspection.vision_work import PartWork
from stts_export.kernels.compiled import Kernels
from stts_export.train.request import RunResult
from stts_export.verify.reduced import Reduced
from stts_export.verify.sensitivity import Sensitivity
from stts_runtime.batch.run import BatchResult
from stts_runtime.bench.measurement import Bench
from stts_runtime.bundle.engine_set import EngineSet
from stts_runtime.bundle.target import Target
from stts_runtime.device.finding import Finding
from stts_runtime.device.probe import Probe
from stts_runtime.live.records import Answer
from stts_runtime.verify.report import Report


class Key(NamedTuple):
    """A key beside or instead of a record's."""

    kind: Any
    meaning: str
    is_optional: bool = False  # only with the option that the meaning names


Keys = dict[str, Key]


class Output(NamedTuple):
    """What a command prints: a record, a list of them, or further keys, at the top or below one."""

    kind: Any = None  # a record, or `tuple[record, ...]`
    keys: Keys = {}  # noqa: RUF012  never changed
    below: Mapping[str, Keys] = {}
    note: str = ""


SUMMARY: Keys = {
    "bundle": Key(str, "its path"),
    "model": Key(str, "its name"),
    "target": Key(str, "what it was built for"),
    "backend": Key(str, "what runs the graphs, on what, in which precision"),
    "weights": Key(str, "what they are stored in"),
    "ops": Key(str, "what the graphs are made of"),
    "pruning": Key(str, "share, scorer and packing, in words"),
    "default_prune_fraction": Key(float, "share of groups that is dropped when nothing else is asked for"),
    "limits": Key(str, "frames and tokens"),
    "images": Key(str, "whether it takes them, and in how many tokens"),
    "engines": Key(str | dict[str, str], "folder -> parts and sizes of built engines, or what is to be done"),
    "size_mib": Key(float, "of all files"),
    "graphs": Key(dict[str, str], "part -> inputs and outputs with their shapes"),
    "source": Key(str, "where its weights came from"),
    "created_by": Key(str, "package and version"),
    "notes": Key(tuple[str, ...], "what a user should know"),
}
DOCTOR: Keys = {
    "problems": Key(int, "how many findings are problems; above 0 the exit code is 1"),
    "findings": Key(tuple[Finding, ...], "in reading order"),
    "probe": Key(Probe, "the machine"),
}
COSTS: Keys = {
    "milliseconds": Key(dict[str, float], "by stage"),
    "tokens": Key(dict[str, int], "counts by name"),
}
TURN: Keys = {
    "question": Key(str, "as it was asked"),
    "answer": Key(str, "the text"),
    "finish_reason": Key(str | None, "`stop`, `length`, or why else it ended"),
    **COSTS,
}
VERDICT: Keys = {
    "schema": Key(int, "counted up when keys change"),
    "ok": Key(bool, "whether the bundle computes what the model does; else the exit code is 1"),
    "verdict": Key(str, "in a sentence"),
    "first_departure": Key(dict[str, str] | None, "`part`, `case` and `layer` of the first that departs"),
}
RATIOS: Keys = {
    name: Key(float, f"predicted / published, {how}")
    for name, how in (
        ("fitted_ratio", "all rows fitted"),
        ("left_out_ratio", "this row left out"),
        ("elsewhere_ratio", "fitted on other families of devices"),
    )
}
SUMS: Keys = {
    "total": Key(int, "bytes while it runs"),
    "build_low": Key(int, "bytes that building engines takes at least"),
    "build_high": Key(int, "at most"),
    "engine_disk": Key(int, "bytes of engines on disk"),
}
ROW = dict[str, str]

OUTPUTS: dict[str, Output] = {
    "stts-export demo": Output(Demo),
    "stts-export build": Output(keys=SUMMARY),
    "stts-export verify": Output(
        Report,
        {
            **VERDICT,
            "reduced": Key(
                Reduced | None,
                "with `--reduce`: the operator at fault, and a `verdict`; null without",
                is_optional=True,
            ),
        },
    ),
    "stts-export sensitivity": Output(Sensitivity),
    "stts-export inspect": Output(
        keys={
            **SUMMARY,
            "work": Key(tuple[PartWork, ...], "with `--work`, else empty"),
            "inspected": Key(tuple[EngineInspection, ...], "with `--engines`, else empty"),
            "beside": Key(tuple[EngineInspection, ...], "with `--against`, else empty"),
            "checked": Key(str, "with `--check`: what was compared", is_optional=True),
            "picture": Key(str, "with `--video`: its path", is_optional=True),
        }
    ),
    "stts-export bench": Output(BenchResult),
    "stts-export conformance": Output(tuple[ConformanceResult, ...]),
    "stts-export targets": Output(tuple[Target, ...], note="With NAME, one of these and `software`, a row a JetPack."),
    "stts-export targets NAME": Output(Target, {"software": Key(tuple[ROW, ...], "versions of each JetPack")}),
    "stts-export estimate": Output(Estimate, below={"memory": SUMS}),
    "stts-export estimate --published": Output(
        keys={
            "rows": Key((Comparison, RATIOS), "one a published figure"),
            "median_absolute_error_of_times": Key(dict[str, float], "by ratio, 0.1 is 10 %"),
        }
    ),
    "stts-export kernels": Output(Kernels),
    "stts-export data": Output(
        keys={
            "splits": Key(tuple[ROW, ...], "a row a split and kind, as the table shows it"),
            "leaks": Key(tuple[Leak, ...], "what could be answered without watching; empty where it was not measured"),
        }
    ),
    "stts-export train": Output(RunResult),
    "stts-export eval": Output(
        Evaluation,
        {
            "summary": Key(Summary, "accuracies and intervals, which follow from the rest"),
            "agreement": Key(tuple[Agreement, ...], "with `--compare`", is_optional=True),
        },
    ),
    "stts-export push": Output(
        keys={
            "repository": Key(str, "`ORG/NAME`"),
            "revision": Key(str | None, "a branch; null for the hub's own"),
            "bytes": Key(int, "of all files"),
            "files": Key(tuple[str, ...], "what is sent"),
            "engines_left_out": Key(tuple[str, ...], "folders of engines, which stay here"),
            "verified": Key(bool, "whether a report says that the bundle computes what the model does"),
            "card": Key(str, "the page of the repository"),
            "commit": Key(str | None, "its address; null with `--dry-run`"),
        }
    ),
    "stts-export doctor": Output(keys={**DOCTOR, "targets": Key(tuple[Buildable, ...], "one a target")}),
    "stts-runtime run": Output(
        keys={
            "prune": Key(float, "share of groups that was dropped"),
            **COSTS,
            "turns": Key(((), TURN), "one a question"),
            "notes": Key(tuple[str, ...], "what a person should know"),
        },
        note="`milliseconds` and `tokens` at the top are of looking at the clip, those of a turn of its answer.",
    ),
    "stts-runtime batch": Output(BatchResult),
    "stts-runtime watch": Output(Answer, note="An object a line, for each answer."),
    "stts-runtime bench": Output(Bench),
    "stts-runtime build": Output(
        EngineSet,
        {
            "folder": Key(str, "name of the folder in `engines/`"),
            "reused": Key(tuple[str, ...], "parts whose engines were there already"),
        },
    ),
    "stts-runtime doctor": Output(keys=DOCTOR),
    "stts-runtime verify": Output(
        Report,
        {
            **VERDICT,
            "polygraphy": Key(tuple[str, ...], "with `--save-inputs`: lines that run Polygraphy", is_optional=True),
        },
    ),
    "stts-runtime pull": Output(
        keys={
            "bundle": Key(str, "its path"),
            "model": Key(str, "its name"),
            "bytes": Key(int, "of all its files"),
        }
    ),
}
SILENT = ("stts-runtime serve", "stts-export completion", "stts-runtime completion")
"""Commands whose output is something else, whatever is asked."""

HEAD = """# What commands print as JSON

Made by `tools/json_page.py` from the records that commands print, which a test holds it to; do not edit it.
With `--json` one object (or array) goes to standard output, everything for people to standard error. Exit codes are the
same as without. Keys may be added in a later version; none changes its meaning without a line in CHANGELOG.md. `null`
is what is not known or does not apply. What `stts-runtime serve` answers is OpenAI's ([serving.md](serving.md)), and
`completion` prints a script, with `--json` too.
"""


def page() -> str:
    """Return the page."""
    parts, records = [HEAD], {}
    for command, output in OUTPUTS.items():
        parts.append(f"\n## `{command}`\n")
        if output.note:
            parts.append(f"\n{output.note}\n")
        record = record_of(output.kind)
        if record is not None:
            many = "an array of " if record is not output.kind else ""
            beside = ", and beside its keys:" if output.keys else "."
            parts.append(f"\n{many.capitalize() or ''}{link(record)}{beside}\n")
            find_records(record, records)
        if output.keys:
            parts.append(table(output.keys, records))
        for key, keys in output.below.items():
            parts.append(f"\n`{key}` holds these too:\n{table(keys, records)}")
    parts.append("\n## Records\n")
    for name in sorted(records):
        record = records[name]
        first = (inspect.getdoc(record) or "").partition("\n\n")[0].replace("\n", " ")
        parts.append(f"\n### {name}\n\n{first}\n{table(keys_of(record), records)}")
    return "".join(parts)


def table(keys: Keys, records: dict[str, type]) -> str:
    """Return keys as a table; further records that they name are added to `records`."""
    lines = ["", "| key | type | meaning |", "|---|---|---|"]
    below = []
    for name, key in keys.items():
        kind = key.kind
        if isinstance(kind, tuple):  # a list of a record with further keys, or of these alone
            record, more = kind
            text = f"array of {link(record)}" if record else "array"
            below.append(f"\nEach of `{name}` holds{' further' if record else ''}:\n{table(more, records)}")
            find_records(record, records)
        else:
            find_records(kind, records)
            text = kind_text(kind)
        lines.append(f"| `{name}` | {text} | {key.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n" + "".join(below)


def record_of(kind: Any) -> type | None:
    """Return the record that a kind is, or is a list of."""
    kinds = (kind, *typing.get_args(kind))
    return next((one for one in kinds if dataclasses.is_dataclass(one)), None)


def find_records(kind: Any, found: dict[str, type]) -> None:
    """Add the records that a kind is made of, by the names that they have on the page."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if found.setdefault(title(kind), kind) is not kind:
            raise ValueError(f"two records would be called {title(kind)}")
        for field in typing.get_type_hints(kind).values():
            if record_names(field) - set(found):
                find_records(field, found)
    for one in typing.get_args(kind):
        find_records(one, found)


def record_names(kind: Any) -> set[str]:
    """Return the names of the records that a kind names itself."""
    own = {title(kind)} if dataclasses.is_dataclass(kind) else set()
    return own.union(*(record_names(one) for one in typing.get_args(kind)))


def title(record: Any) -> str:
    """Return what a record is called on the page: its name, and where others have it too, its module's before it."""
    module = record.__module__.split(".")
    return f"{record.__name__} ({'.'.join(module[:1] + module[-1:])})"


def link(record: Any) -> str:
    """Return a link to a record's table."""
    name = title(record)
    anchor = re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-")
    return f"[{record.__name__}](#{anchor})"


def keys_of(record: type) -> Keys:
    """Return the fields of a record with their types and the comments beside, or above, or about them."""
    source = inspect.getsource(record).splitlines()
    about = dict(re.findall(r"^\s+(\w+): (.+)$", inspect.getdoc(record) or "", re.M))
    hints = typing.get_type_hints(record)
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]  every record is a dataclass
    return {name: Key(hints[name], comment(source, name) or about.get(name, "")) for name in names}


def comment(source: list[str], name: str) -> str:
    """Return the comment behind the line that declares a field, or those right above it."""
    (place,) = (number for number, line in enumerate(source) if re.match(rf" {{4}}{name}: ", line))
    behind = source[place].partition("  # ")[2]
    if behind:
        return behind
    above: list[str] = []
    while (line := source[place - 1 - len(above)].strip()).startswith("# "):
        above.insert(0, line[2:])
    return " ".join(above)


def kind_text(kind: Any) -> str:
    """Return a type in JSON's words."""
    words = {bool: "true or false", int: "integer", float: "number", str: "string", type(None): "null"}
    words |= {object: "any", Any: "any"}
    if kind in words:
        return words[kind]
    if dataclasses.is_dataclass(kind):
        return link(kind)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        distinct = list(dict.fromkeys(kind_text(one) for one in arguments if one is not Ellipsis))
        return f"array of {' or '.join(distinct)}"
    if isinstance(typing.get_origin(kind), type) and issubclass(typing.get_origin(kind), Mapping):
        return f"object of {kind_text(arguments[1])}"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(kind_text(one) for one in arguments)
    raise TypeError(f"no words for {kind}")


def misfit(value: Any, output: Output) -> str | None:
    """Return where what a command printed departs from the page; None where nowhere."""
    record = record_of(output.kind)
    keys = {**(keys_of(record) if record else {}), **output.keys}
    for name, more in output.below.items():
        keys[name] = Key(({**keys_of(record_of(keys[name].kind) or type), **more},), "")
    values = value if record is not None and record is not output.kind else [value]
    return next((found for one in values if (found := _misfit(one, (keys,), "")) is not None), None)


def _misfit(value: Any, kind: Any, where: str) -> str | None:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _misfit(value, (keys_of(kind),), where)
    if isinstance(kind, tuple) and len(kind) == 1:
        (keys,) = kind
        if not isinstance(value, dict):
            return f"{where}: no object"
        wrong = set(value) - set(keys), {name for name, key in keys.items() if not key.is_optional} - set(value)
        if any(wrong):
            return f"{where}: unknown {sorted(wrong[0])}, missing {sorted(wrong[1])}"
        found = (_misfit(value[name], keys[name].kind, f"{where}.{name}") for name in value)
        return next((one for one in found if one is not None), None)
    if isinstance(kind, tuple):
        record, more = kind
        keys = {**(keys_of(record) if record else {}), **more}
        return next((one for item in value if (one := _misfit(item, (keys,), f"{where}[]"))), None)
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        found = [_misfit(value, one, where) for one in arguments]
        return None if None in found else found[-1]
    if origin is tuple:
        items = [one for one in arguments if one is not Ellipsis]
        if not isinstance(value, list):
            return f"{where}: no array"
        kinds = items * len(value) if Ellipsis in arguments else items
        return next(
            (one for item, of in zip(value, kinds, strict=True) if (one := _misfit(item, of, f"{where}[]"))), None
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            return f"{where}: no object"
        return next((one for item in value.values() if (one := _misfit(item, arguments[1], f"{where}.*"))), None)
    if kind in (object, Any) or (kind is float and type(value) is int) or type(value) is kind:
        return None
    return f"{where}: {value!r} is no {kind_text(kind)}"


if __name__ == "__main__":
    sys.stdout.write(page())
