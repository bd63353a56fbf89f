"""A report as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from stts_runtime.text_table import Rows, text_table
from stts_runtime.verify.report import Line, Report, Rung


NUMBERS = ("cosine", "max error", "p99 error", "relative", "overlap")
"""Columns of what is known of a line, in the order of `number_cells`."""

_RUN, _TENSOR, _VERDICT, _NOTE = "run", "tensor", "ok", "note"


def report_text(report: Report, everything: bool = False) -> str:
    """Return a row for each run with the worst of its numbers, then the lines of what failed and of end to end.

    Args:
        report: what to show.
        everything: whether to show the lines of the other runs too.
    """
    title = f"{report.bundle} on {report.engine}, {report.precision}, against {report.reference}"
    runs = Rows(title, (_RUN, *NUMBERS, _VERDICT, _NOTE), tuple(_run_cells(rung) for rung in report.rungs))
    shown = [rung for rung in report.rungs if everything or not rung.ok]
    if report.rungs:
        shown += [rung for rung in report.rungs[-1:] if rung not in shown]
    blocks = [text_table(table, (_RUN, _TENSOR, _VERDICT, _NOTE)) for table in (runs, *map(rung_rows, shown))]
    notes = "".join(f"note: {note}\n" for note in report.notes)
    return "\n".join([*blocks, f"{notes}{'ok' if report.ok else 'FAILED'}: {report.verdict}\n"])


def rung_rows(rung: Rung) -> Rows:
    """Return the lines of a run."""
    rows = tuple((line.name, *number_cells(line), _mark(line.ok), line.message) for line in rung.lines)
    return Rows(rung.name, (_TENSOR, *NUMBERS, _VERDICT, _NOTE), rows)


def number_cells(line: Line) -> list[str]:
    """Return the numbers of a line as text, in the order of `NUMBERS`; empty where one does not apply."""
    errors = [f"{value:.1e}" if value is not None else "" for value in (line.max_error, line.p99_error)]
    relative = f"{line.relative_error:.1e}" if line.relative_error is not None else ""
    overlap = f"{line.overlap:.3f}" if line.overlap is not None else ""
    return [f"{line.cosine:.7f}" if line.cosine is not None else "", *errors, relative, overlap]


def worst_line(rung: Rung) -> Line:
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


def _run_cells(rung: Rung) -> tuple[str, ...]:
    first = rung.first_departure
    note = f"departs first: {first.name}" if first else f"{len(rung.lines)} compared"
    return rung.name, *number_cells(worst_line(rung)), _mark(rung.ok), note


def _mark(ok: bool) -> str:
    return "ok" if ok else "FAIL"
