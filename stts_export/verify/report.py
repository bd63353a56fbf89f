"""What verification found: plain data that is stored as JSON, and tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stts_export.errors import VerificationError
from stts_runtime.plain import from_plain, to_plain


REPORT = "verify/report.json"
REPORT_SCHEMA = 1


@dataclass(frozen=True)
class Line:
    """One tensor, or one fact, held against its reference. Numbers that do not apply are None.

    Attributes:
        name: the tap (path of a submodule), the output, or what is compared.
        ok: whether it passes.
        cosine: smallest between a row and its reference.
        max_error: largest absolute error.
        p99_error: the absolute error that 99 % of the values stay under.
        relative_error: the largest over the reference's largest magnitude.
        overlap: for sets and sequences, the share that is equal.
        message: why it fails, or what else is worth saying.
    """

    name: str
    ok: bool
    cosine: float | None = None
    max_error: float | None = None
    p99_error: float | None = None
    relative_error: float | None = None
    overlap: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Rung:
    """One run of one graph on recorded inputs, or the run of all from frames to tokens.

    Attributes:
        part: the graph's name, or `end_to_end`.
        case: which run: `frames 0 to 2`, `prefill`.
        lines: in data-flow order.
    """

    part: str
    case: str
    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether something was compared and all of it holds."""
        return bool(self.lines) and all(line.ok for line in self.lines)

    @property
    def first_departure(self) -> Line | None:
        """The first line that fails."""
        return next((line for line in self.lines if not line.ok), None)

    @property
    def name(self) -> str:
        """Part and case, for people."""
        return f"{self.part}, {self.case}"


@dataclass(frozen=True)
class Report:
    """What verification found about a bundle.

    Attributes:
        bundle: its name.
        reference: what it was compared with.
        engine: backend and version.
        precision: in which the engines compute, which decided the tolerances.
        rungs: graph by graph in data-flow order, then end to end.
        notes: what limits the verdict.
    """

    bundle: str
    reference: str
    engine: str
    precision: str
    rungs: tuple[Rung, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the bundle computes what the model does."""
        return bool(self.rungs) and all(rung.ok for rung in self.rungs)

    @property
    def first_departure(self) -> tuple[Rung, Line] | None:
        """Where the bundle first departs from the model."""
        for rung in self.rungs:
            if (line := rung.first_departure) is not None:
                return rung, line
        return None

    @property
    def verdict(self) -> str:
        """One sentence: that all is well, or which graph departs at which layer and by how much."""
        departure = self.first_departure
        if departure is not None:
            rung, line = departure
            return f"{rung.part} departs from the model at {line.name} ({rung.case}): {line.message}"
        return f"agrees with the model on {len(self.rungs)} runs" if self.ok else "nothing was compared"


def check_report(report: Report) -> None:
    """Raise VerificationError, naming the graph and the first layer that departs, unless all is well."""
    if not report.ok:
        raise VerificationError(
            f"{report.bundle}: {report.verdict}. Its weights, its graph or the engine ({report.engine}) are at fault; "
            "stts-export verify lists every layer"
        )


def report_json(report: Report) -> str:
    """Return the report as JSON, with its verdict spelled out."""
    departure = report.first_departure
    summary = {
        "schema": REPORT_SCHEMA,
        "ok": report.ok,
        "verdict": report.verdict,
        "first_departure": departure
        and {"part": departure[0].part, "case": departure[0].case, "layer": departure[1].name},
    }
    # no NaN and no infinity ever reach a report: they are not JSON, and other readers refuse them
    return json.dumps({**summary, **to_plain(report)}, indent=2, allow_nan=False) + "\n"


def report_from_json(text: str, where: str = REPORT) -> Report:
    """Return the report that `report_json` wrote.

    Raises:
        VerificationError: it is damaged, or of another schema.
    """
    try:
        data = dict(json.loads(text))
        schema = data.pop("schema")
        for key in ("ok", "verdict", "first_departure"):
            data.pop(key)
    except (ValueError, TypeError, LookupError) as error:
        raise VerificationError(
            f"{where}: not a verification report ({error}); run stts-export verify again"
        ) from error
    if schema != REPORT_SCHEMA:
        raise VerificationError(f"{where}: report of schema {schema!r}, this stts-export reads {REPORT_SCHEMA}")
    return from_plain(Report, data, where, VerificationError)


def write_report(folder: Path, report: Report) -> None:
    """Write the report to its place in the bundle's directory."""
    path = folder / REPORT
    path.parent.mkdir(exist_ok=True)
    path.write_text(report_json(report), encoding="utf-8")


def render_report(report: Report, layers: bool = True) -> RenderableType:
    """Return a table of the report for a console.

    Args:
        report: what to show.
        layers: every layer; else one row a run, and the layers of the first run that fails.
    """
    title = f"{report.bundle} on {report.engine}, {report.precision}, against {report.reference}"
    style = "bold green" if report.ok else "bold red"
    notes = [Text(f"note: {note}") for note in report.notes]
    verdict = Text(f"{'ok' if report.ok else 'FAILED'}: {report.verdict}", style)
    if layers:
        return Group(_layer_table(report.rungs, title), *notes, verdict)
    failing = [rung for rung in report.rungs if not rung.ok][:1]
    return Group(_run_table(report.rungs, title), *([_layer_table(failing, "")] if failing else []), *notes, verdict)


def _layer_table(rungs: tuple[Rung, ...] | list[Rung], title: str) -> Table:
    table = _table(title, "layer")
    for rung in rungs:
        table.add_section()
        table.add_row(Text(rung.name, "bold"))
        first = rung.first_departure
        for line in rung.lines:
            note = f"departs first: {line.message}" if line is first else line.message
            table.add_row(Text(f"  {line.name}"), *_numbers(line), _mark(line.ok), Text(note, "" if line.ok else "red"))
    return table


def _run_table(rungs: tuple[Rung, ...], title: str) -> Table:
    table = _table(title, "run")
    for rung in rungs:
        first = rung.first_departure
        note = f"departs first: {first.name}" if first else f"{len(rung.lines)} compared"
        table.add_row(Text(rung.name), *_numbers(_worst(rung)), _mark(rung.ok), Text(note, "red" if first else ""))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in ("cosine", "max error", "p99 error", "relative", "overlap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", overflow="fold")
    return table


def _numbers(line: Line) -> list[str]:
    errors = [f"{value:.1e}" if value is not None else "" for value in (line.max_error, line.p99_error)]
    relative = f"{line.relative_error:.1e}" if line.relative_error is not None else ""
    overlap = f"{line.overlap:.3f}" if line.overlap is not None else ""
    return [f"{line.cosine:.7f}" if line.cosine is not None else "", *errors, relative, overlap]


def _mark(ok: bool) -> Text:
    return Text("ok", "green") if ok else Text("FAIL", "bold red")


def _worst(rung: Rung) -> Line:
    """Return a line with the worst of each number in the run."""

    def extreme(name: str, pick: Callable[[list[float]], float]) -> float | None:
        found = [value for line in rung.lines if (value := getattr(line, name)) is not None]
        return pick(found) if found else None

    return Line(
        name=rung.name,
        ok=rung.ok,
        cosine=extreme("cosine", min),
        max_error=extreme("max_error", max),
        p99_error=extreme("p99_error", max),
        relative_error=extreme("relative_error", max),
        overlap=extreme("overlap", min),
    )
