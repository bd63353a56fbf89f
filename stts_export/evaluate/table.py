"""An evaluation as rows of tables."""

from __future__ import annotations

from stts_export.evaluate.records import BLIND, FATES, SCORERS, TWIN, UNPRUNED, Evaluation, Setting
from stts_export.evaluate.statistics import Difference, Share
from stts_export.evaluate.summary import Summary, summarise
from stts_runtime.text_table import NONE, Rows


HEAD = ("model", "scorer", "pruned", "soft bias", "frames")
TITLES = {
    "split": "By split, % right",
    "kind": "By kind of question, % right",
    "still": "By share of patches that stand still, % right",
    "scenario": "By scenario, % right",
}


def tables(evaluation: Evaluation) -> tuple[Rows, ...]:
    """Return the table of all settings, then one a facet that has more than one value."""
    summary = summarise(evaluation)
    if not summary.rows:
        return ()
    facets = [facet for facet, values in summary.rows[0].parts.items() if len(values) > 1]
    kept = (kept_rows(evaluation),) if evaluation.kept else ()
    return overall_rows(evaluation, summary), *(_facet_rows(summary, facet) for facet in facets), *kept


def overall_rows(evaluation: Evaluation, summary: Summary) -> Rows:
    """Return accuracy of every setting, and how it stands beside dense and random."""
    columns = {
        "against dense twin" if summary.reference == TWIN else "against dense": [
            _difference(row.against_dense) for row in summary.rows
        ],
        "against random": [_difference(row.against_random) for row in summary.rows],
        "against fewer frames": [_difference(row.against_fewer) for row in summary.rows],
        "ms a question": [NONE if row.seconds is None else f"{row.seconds * 1e3:.0f}" for row in summary.rows],
    }
    used = {name: cells for name, cells in columns.items() if any(cell != NONE for cell in cells)}
    rows = tuple(
        (*head(row.setting), _interval(row.overall), *(cells[place] for cells in used.values()))
        for place, row in enumerate(summary.rows)
    )
    clips = len({one.clip for one in evaluation.questions})
    title = (
        f"{evaluation.what} on {evaluation.data}: {len(evaluation.questions)} questions on {clips} clips, "
        f"{evaluation.engine} {evaluation.precision} on {evaluation.device}; 95 % intervals, differences in points on "
        "the same questions"
    )
    return Rows(title, (*HEAD, "% right", *used), rows)


def kept_rows(evaluation: Evaluation) -> Rows:
    """Return what the scorers keep of groups, by what became of them since the frame before."""
    first = evaluation.kept[0]
    shares = [
        f"{name} ({count / sum(first.groups):.0%} of them)" for name, count in zip(FATES, first.groups, strict=True)
    ]
    rows = tuple(
        (
            one.subject,
            one.kind,
            f"{one.prune:.0%}",
            "own" if one.frames is None else str(one.frames),
            *(f"{100 * kept / there:.1f}" if there else NONE for kept, there in zip(one.kept, one.groups, strict=True)),
        )
        for one in evaluation.kept
    )
    title = f"What is kept: % of groups behind the first frame, by what became of them, {first.clips} clips"
    return Rows(title, ("model", "scorer", "pruned", "frames", *shares), rows)


def head(setting: Setting) -> tuple[str, ...]:
    """Return the cells that say which setting a row is of."""
    pruned = NONE if setting.scorer in UNPRUNED else f"{setting.prune:.0%}"
    bias = ("on" if setting.soft_bias else "off") if setting.scorer in SCORERS else NONE
    frames = "own" if setting.frames is None else str(setting.frames)
    return setting.subject, setting.kind, pruned, bias, NONE if setting.scorer == BLIND else frames


def _facet_rows(summary: Summary, facet: str) -> Rows:
    shares = summary.rows[0].parts[facet]
    headers = tuple(f"{value} ({one.questions})" for value, one in shares.items())
    rows = tuple(
        (*head(row.setting), *(f"{100 * one.accuracy:.1f}" for one in row.parts[facet].values()))
        for row in summary.rows
    )
    return Rows(TITLES[facet], (*HEAD, *headers), rows)


def _interval(found: Share) -> str:
    return f"{100 * found.accuracy:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _difference(found: Difference | None) -> str:
    if found is None:
        return NONE
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
