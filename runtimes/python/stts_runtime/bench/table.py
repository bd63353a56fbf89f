"""A bench as rows of tables, and as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stts_runtime.bench.measurement import Bench, Measurement, Speedup, variant
from stts_runtime.text_table import NONE, Rows, text_table


TIMED = {
    "read_video": "read",
    "preprocessing": "preproc.",
    "vision_score": "score",
    "plan": "plan",
    "vision_encode": "encode",
    "vision_dense": "dense",
    "vision": "vision",
    "prefill": "prefill",
}
"""Stage -> column, in the order of the columns."""


def tables(found: Bench) -> tuple[Rows, ...]:
    """Return all that was measured: times, tokens, and memory where there is any."""
    measured = found.measurements
    made = [time_rows(found), *([ratio_rows(found)] if found.comparisons else []), token_rows(measured)]
    if any(one.memory is not None for one in measured):
        made.append(memory_rows(measured))
    return tuple(made)


def time_rows(found: Bench) -> Rows:
    """Return times by stage, and how much faster pruned is than dense by the same engine."""
    stages = [stage for stage in TIMED if any(stage in one.milliseconds for one in found.measurements)]
    faster = {(one.engine, one.frames, one.prune): one for one in found.comparisons}
    rows = []
    for one in found.measurements:
        compared = faster.get((one.engine, one.frames, one.prune))
        share = None if compared is None else compared.plan_share
        stage_times = (_number(one.milliseconds.get(stage)) for stage in stages)
        ratio = times_text(compared.vision_and_prefill if compared else None)
        plan = NONE if share is None else f"{share:.2%}"
        rows.append((*_head(one), *stage_times, _number(one.vision_and_prefill), ratio, plan, _number(one.token_ms)))
    headers = ("T", "engine", "variant", *(TIMED[stage] for stage in stages), "vision+prefill")
    title = "Milliseconds (medians); vision+prefill is all but decode and answer, faster is against dense"
    return Rows(title, (*headers, "faster", "plan share", "a token"), tuple(rows))


def ratio_rows(found: Bench) -> Rows:
    """Return dense by pruned, stage by stage."""
    timed = [stage for stage in (*TIMED, "decode") if stage != "vision"]
    stages = [stage for stage in timed if any(stage in one.stages for one in found.comparisons)]
    rows = tuple(
        (*_head(one), *map(times_text, (*map(one.stages.get, stages), one.vision, one.vision_and_prefill)))
        for one in found.comparisons
    )
    headers = ("T", "engine", "variant", *map(_column, stages), "all vision", "vision+prefill")
    return Rows("Dense by pruned: above 1 pruned is faster; all vision is score, plan and encode", headers, rows)


def token_rows(measured: Sequence[Measurement]) -> Rows:
    """Return how many tokens there were before and after pruning."""
    names = ("patches", "packed_patches", "groups", "kept_groups", "prompt_tokens")
    rows = dict.fromkeys(
        (str(one.frames), variant(one.prune), *(str(one.tokens[name]) for name in names))
        for one in measured
        if "packed_patches" in one.tokens
    )
    headers = ("T", "variant", *(name.replace("_", " ") for name in names))
    return Rows("Tokens: packed patches include empty slots of bins and context put back", headers, tuple(rows))


def memory_rows(measured: Sequence[Measurement]) -> Rows:
    """Return peak memory of the whole and by stage."""
    weighed = [(one, one.memory) for one in measured if one.memory is not None]
    stages = [stage for stage in (*TIMED, "decode") if any(stage in memory.stages for _, memory in weighed)]
    rows = tuple(
        (*_head(one), _number(memory.peak), *(_number(memory.stages.get(stage)) for stage in stages))
        for one, memory in weighed
    )
    headers = ("T", "engine", "variant", "peak", *map(_column, stages))
    title = "Memory in MiB above what the opened engines hold; by stage, above what was there before it"
    return Rows(title, headers, rows)


def text_report(found: Bench) -> str:
    """Return the tables and notes as plain text."""
    blocks = [text_table(table) for table in tables(found)]
    notes = "".join(f"note: {note}\n" for note in found.notes)
    return "\n".join([*blocks, notes] if notes else blocks)


def _head(one: Measurement | Speedup) -> tuple[str, str, str]:
    return str(one.frames), one.engine, variant(one.prune)


def _column(stage: str) -> str:
    return "a token" if stage == "decode" else TIMED[stage]


def times_text(value: float | None) -> str:
    """Return a ratio, or a dash for none."""
    return NONE if value is None else f"{value:.2f}x"


def _number(value: float | None) -> str:
    """Return a number with as many digits as it has meaning."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
