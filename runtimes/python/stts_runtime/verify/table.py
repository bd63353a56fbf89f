"""A report as plain text for a terminal."""

from __future__ import annotations

from typing import Any

from stts_runtime.text_table import Rows, text_table
from stts_runtime.verify.end_to_end import END_TO_END
from stts_runtime.verify.report import FAILED, PASSED, SKIPPED, TIED, CaseResult, Comparison, Report


NUMBERS = ("cosine", "max error", "p99 error", "relative", "overlap")
"""Columns of what is known of a comparison, in the order of `number_cells`."""

MARKS = {PASSED: "ok", FAILED: "FAIL", TIED: "tied", SKIPPED: "skipped"}
"""A comparison's verdict -> the word for it in a table."""

_FORMS = {
    "cosine": "{:.7f}",
    "max_error": "{:.1e}",
    "p99_error": "{:.1e}",
    "relative_error": "{:.1e}",
    "overlap": "{:.3f}",
}
_BEST_AT_ONE = ("cosine", "overlap")
_RUN, _TENSOR, _VERDICT, _NOTE = "run", "tensor", "ok", "note"


def report_text(report: Report, everything: bool = False) -> str:
    """Return a row for each run with the worst of its numbers, then the comparisons of what failed and of end to end.

    Args:
        report: what to show.
        everything: whether to show the comparisons of the other runs too.
    """
    title = f"{report.bundle} on {report.engine}, {report.precision}, against {report.reference}"
    runs = Rows(title, (_RUN, *NUMBERS, _VERDICT, _NOTE), tuple(_run_cells(result) for result in report.results))
    shown = [result for result in report.results if everything or not result.ok]
    shown += [result for result in report.results if result.part == END_TO_END and result not in shown]
    blocks = [text_table(table, (_RUN, _TENSOR, _VERDICT, _NOTE)) for table in (runs, *map(comparison_rows, shown))]
    notes = "".join(f"note: {note}\n" for note in report.notes)
    return "\n".join([*blocks, f"{notes}{'ok' if report.ok else 'FAILED'}: {report.verdict}\n"])


def comparison_rows(result: CaseResult) -> Rows:
    """Return the comparisons of a run."""
    rows = tuple((one.name, *number_cells(one), MARKS[one.verdict], one.message) for one in result.comparisons)
    return Rows(result.name, (_TENSOR, *NUMBERS, _VERDICT, _NOTE), rows)


def number_cells(comparison: Comparison) -> list[str]:
    """Return the numbers of a comparison as text, in the order of `NUMBERS`; empty where one does not apply."""
    numbers = {name: getattr(comparison, name) for name in _FORMS}
    return ["" if value is None else _FORMS[name].format(value) for name, value in numbers.items()]


def worst_numbers(result: CaseResult) -> list[str]:
    """Return the worst of each number in a run, as `number_cells` does."""
    worst: dict[str, Any] = {}
    for name in _FORMS:
        found = [value for one in result.comparisons if (value := getattr(one, name)) is not None]
        worst[name] = (min if name in _BEST_AT_ONE else max)(found, default=None)
    return number_cells(Comparison(result.name, PASSED, **worst))


def run_note(result: CaseResult) -> str:
    """Return what there is to say of a run in few words."""
    if result.first_departure is not None:
        return f"departs first: {result.first_departure.name}"
    skipped = len(result.comparisons) - result.compared
    return f"{result.compared} compared" + (f", {skipped} skipped" if skipped else "")


def _run_cells(result: CaseResult) -> tuple[str, ...]:
    mark = MARKS[PASSED if result.ok else FAILED]
    return result.name, *worst_numbers(result), mark, run_note(result)
