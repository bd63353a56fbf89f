"""The report in a build: stored in the bundle, a failure raised, and tables for a console."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stts_runtime.errors import VerificationError
from stts_runtime.verify.report import REPORT, Report, Rung, report_json
from stts_runtime.verify.table import NUMBERS, number_cells, worst_line


def check_report(report: Report) -> None:
    """Raise VerificationError, naming the graph and the first layer that departs, unless all is well."""
    if not report.ok:
        raise VerificationError(
            f"{report.bundle}: {report.verdict}. Its weights, its graph or the engine ({report.engine}) are at fault; "
            "stts-export verify lists every layer"
        )


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
            table.add_row(
                Text(f"  {line.name}"), *number_cells(line), _mark(line.ok), Text(note, "" if line.ok else "red")
            )
    return table


def _run_table(rungs: tuple[Rung, ...], title: str) -> Table:
    table = _table(title, "run")
    for rung in rungs:
        first = rung.first_departure
        note = f"departs first: {first.name}" if first else f"{len(rung.lines)} compared"
        table.add_row(
            Text(rung.name), *number_cells(worst_line(rung)), _mark(rung.ok), Text(note, "red" if first else "")
        )
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", overflow="fold")
    return table


def _mark(ok: bool) -> Text:
    return Text("ok", "green") if ok else Text("FAIL", "bold red")
