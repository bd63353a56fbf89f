"""What verification found: plain data, stored as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import VerificationError


REPORT = "verify/report.json"
REPORT_SCHEMA = 2

PASSED, FAILED, TIED, SKIPPED = "passed", "failed", "tied", "skipped"


@dataclass(frozen=True)
class Comparison:
    """One tensor, or one fact, held against its reference. Numbers that do not apply are None."""

    name: str  # the tap (path of a submodule), the output, or what is compared
    # `passed`; `failed`, also where it should have been compared and could not be; `tied` (differs, only where the
    # model itself is undecided between the two); `skipped` (not compared, and that is no fault)
    verdict: str
    cosine: float | None = None  # smallest between a row and its reference
    max_error: float | None = None  # largest absolute error
    p99_error: float | None = None  # the absolute error that 99 % of the values stay under
    relative_error: float | None = None  # the largest over the reference's largest magnitude
    overlap: float | None = None  # for sets and sequences, the share that is equal
    message: str = ""  # why it fails, is tied or was skipped

    @property
    def failed(self) -> bool:
        """Whether it is a fault."""
        return self.verdict == FAILED

    @property
    def skipped(self) -> bool:
        """Whether it says nothing."""
        return self.verdict == SKIPPED


@dataclass(frozen=True)
class CaseResult:
    """One run of one graph on recorded inputs, or the run of all from frames to tokens."""

    part: str  # the graph's name, or `end_to_end`
    case: str  # which run: `frames 0 to 2`, `prefill`
    comparisons: tuple[Comparison, ...]  # in data-flow order

    @property
    def ok(self) -> bool:
        """Whether something was compared and nothing fails."""
        return self.compared > 0 and self.first_departure is None

    @property
    def compared(self) -> int:
        """How many comparisons say something."""
        return sum(not one.skipped for one in self.comparisons)

    @property
    def first_departure(self) -> Comparison | None:
        """The first comparison that fails."""
        return next((one for one in self.comparisons if one.failed), None)

    @property
    def name(self) -> str:
        """Part and case, for people."""
        return f"{self.part}, {self.case}"


@dataclass(frozen=True)
class Report:
    """What verification found about a bundle."""

    bundle: str  # its name
    reference: str  # what it was compared with
    engine: str  # backend and version
    precision: str  # in which the engines compute, which decided the tolerances
    results: tuple[CaseResult, ...]  # graph by graph in data-flow order, then end to end
    notes: tuple[str, ...] = ()  # what limits the verdict

    @property
    def ok(self) -> bool:
        """Whether the bundle computes what the model does."""
        return bool(self.results) and all(result.ok for result in self.results)

    @property
    def first_departure(self) -> tuple[CaseResult, Comparison] | None:
        """Where the bundle first departs from the model."""
        for result in self.results:
            if (departure := result.first_departure) is not None:
                return result, departure
        return None

    @property
    def verdict(self) -> str:
        """One sentence: that all is well but for what was skipped, or which graph departs where and by how much."""
        if self.first_departure is not None:
            result, departure = self.first_departure
            return f"{result.part} departs from the model at {departure.name} ({result.case}): {departure.message}"
        empty = [result.name for result in self.results if not result.compared]
        if len(empty) == len(self.results):
            return "nothing was compared"
        if empty:
            return f"nothing was compared in {'; '.join(empty)}"
        agrees = f"agrees with the model on {len(self.results)} runs"
        skipped = [one for result in self.results for one in result.comparisons if one.skipped]
        if not skipped:
            return agrees
        reasons = ", ".join(f"{one.name} ({one.message})" for one in skipped)
        return f"{agrees}, {len(skipped)} {'comparison' if len(skipped) == 1 else 'comparisons'} skipped: {reasons}"


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
        raise VerificationError(f"{where}: not a verification report ({error}); verify the bundle again") from error
    if schema != REPORT_SCHEMA:
        raise VerificationError(
            f"{where}: report of schema {schema!r}, this version reads {REPORT_SCHEMA}; verify the bundle again"
        )
    return from_plain(Report, data, where, VerificationError)
