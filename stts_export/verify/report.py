"""The report in a build: stored in the bundle, a failure raised, and tables for a console."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stts_runtime.errors import VerificationError
from stts_runtime.verify.report import FAILED, PASSED, REPORT, SKIPPED, CaseResult, Report, report_json
from stts_runtime.verify.table import MARKS, NUMBERS, number_cells, run_note, worst_numbers


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
        return Group(_layer_table(report.results, title), *notes, verdict)
    failing = [result for result in report.results if not result.ok][:1]
    return Group(_run_table(report.results, title), *([_layer_table(failing, "")] if failing else []), *notes, verdict)


def _layer_table(results: Sequence[CaseResult], title: str) -> Table:
    table = _table(title, "layer")
    for result in results:
        table.add_section()
        table.add_row(Text(result.name, "bold"))
        first = result.first_departure
        for one in result.comparisons:
            note = f"departs first: {one.message}" if one is first else one.message
            style = "red" if one.failed else ""
            table.add_row(Text(f"  {one.name}"), *number_cells(one), _mark(one.verdict), Text(note, style))
    return table


def _run_table(results: Sequence[CaseResult], title: str) -> Table:
    table = _table(title, "run")
    for result in results:
        mark = _mark(PASSED if result.ok else FAILED)
        note = Text(run_note(result), "red" if result.first_departure else "")
        table.add_row(Text(result.name), *worst_numbers(result), mark, note)
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("", overflow="fold")
    return table


def _mark(verdict: str) -> Text:
    return Text(MARKS[verdict], {FAILED: "bold red", SKIPPED: "yellow"}.get(verdict, "green"))
