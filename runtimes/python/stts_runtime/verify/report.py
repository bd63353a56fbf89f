"""What verification found: plain data, stored as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import VerificationError


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
        raise VerificationError(f"{where}: report of schema {schema!r}, this version reads {REPORT_SCHEMA}")
    return from_plain(Report, data, where, VerificationError)
