"""A bench as rows of tables, and as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stts_runtime.bench.measurement import BUNDLE, VISION, Bench, Measurement, Speedup, is_bundle, variant
from stts_runtime.text_table import NONE, Rows, text_table


STAGED = {
    "read_video": "read",
    "preprocessing": "preproc.",
    "vision_score": "score",
    "plan": "plan",
    "vision_encode": "encode",
    "vision_dense": "dense",
}
"""Stage -> column, in the order of the columns, of engines that tell the parts of vision apart."""
HEAD = ("T", "engine", "variant")


def tables(found: Bench) -> tuple[Rows, ...]:
    """Return all that was measured, in tables that fit a terminal: times, ratios, tokens, memory if there is any."""
    measured = found.measurements
    made = [time_rows(found)]
    for table in (ratio_rows(found), weight_rows(measured), *stage_rows(found), token_rows(measured)):
        made += [table] if table.rows else []
    if any(one.memory is not None for one in measured):
        made.append(memory_rows(measured))
    return tuple(made)


def time_rows(found: Bench) -> Rows:
    """Return the times of vision, prefill and a token."""
    rows = tuple(
        (
            *_head(one),
            _number(one.vision),
            _number(one.milliseconds.get("prefill")),
            _number(one.vision_and_prefill),
            _number(one.token_ms),
        )
        for one in found.measurements
    )
    title = "Milliseconds (medians); all is preprocessing, vision and prefill"
    return Rows(title, (*HEAD, "vision", "prefill", "all", "a token"), rows)


def ratio_rows(found: Bench) -> Rows:
    """Return dense by pruned."""
    rows = tuple(
        (
            *_head(one),
            times_text(one.vision),
            times_text(one.stages.get("prefill")),
            times_text(one.vision_and_prefill),
            times_text(one.stages.get("decode")),
        )
        for one in found.comparisons
    )
    return Rows("Dense by pruned: above 1 pruned is faster", (*HEAD, "vision", "prefill", "all", "a token"), rows)


def weight_rows(measured: Sequence[Measurement]) -> Rows:
    """Return the bundle by each of those beside it, which differ in what their weights are stored in."""
    own = {(one.frames, one.prune): one for one in measured if one.engine == BUNDLE}
    rows = []
    for one in measured:
        base = own.get((one.frames, one.prune))
        if is_bundle(one.engine) and base is not None and one is not base:
            pairs = (
                (base.vision, one.vision),
                (base.milliseconds["prefill"], one.milliseconds["prefill"]),
                (base.vision_and_prefill, one.vision_and_prefill),
                (base.token_ms, one.token_ms),
            )
            rows.append((*_head(one), *(times_text(ours / other) for ours, other in pairs)))
    title = "The bundle by those beside it: above 1 they are faster"
    return Rows(title, (*HEAD, "vision", "prefill", "all", "a token"), tuple(rows))


def stage_rows(found: Bench) -> tuple[Rows, ...]:
    """Return the times of all stages before prefill, a table for each engine that tells them apart."""
    shares = {(one.engine, one.frames, one.prune): one.plan_share for one in found.comparisons}
    made = []
    for engine in dict.fromkeys(one.engine for one in found.measurements if is_bundle(one.engine)):
        measured = [one for one in found.measurements if one.engine == engine]
        stages = [stage for stage in STAGED if any(stage in one.milliseconds for one in measured)]
        rows = []
        for one in measured:
            share = shares.get((engine, one.frames, one.prune))
            times = (_number(one.milliseconds.get(stage)) for stage in stages)
            rows.append((str(one.frames), variant(one.prune), *times, NONE if share is None else f"{share:.2%}"))
        title = f"{engine}, milliseconds before prefill; share is the plan's of all"
        made.append(Rows(title, ("T", "variant", *(STAGED[stage] for stage in stages), "share"), tuple(rows)))
    return tuple(made)


def token_rows(measured: Sequence[Measurement]) -> Rows:
    """Return how many tokens there were before and after pruning."""
    names = ("patches", "packed_patches", "groups", "kept_groups", "prompt_tokens")
    rows = dict.fromkeys(
        (str(one.frames), variant(one.prune), *(str(one.tokens[name]) for name in names))
        for one in measured
        if "packed_patches" in one.tokens
    )
    headers = ("T", "variant", "patches", "packed", "groups", "kept", "prompt")
    return Rows("Tokens; packed patches include empty slots of bins and context put back", headers, tuple(rows))


def memory_rows(measured: Sequence[Measurement]) -> Rows:
    """Return peak memory of the whole, and of vision, prefill and a token."""
    rows = []
    for one in measured:
        if one.memory is not None:
            stages = one.memory.stages
            vision = max((stages[stage] for stage in VISION if stage in stages), default=None)
            parts = (vision, stages.get("prefill"), stages.get("decode"))
            rows.append((*_head(one), _number(one.memory.peak), *map(_number, parts)))
    title = "Memory in MiB above the opened engines; of a stage, above what was before it"
    return Rows(title, (*HEAD, "peak", "vision", "prefill", "a token"), tuple(rows))


def text_report(found: Bench) -> str:
    """Return the tables and notes as plain text."""
    blocks = [text_table(table) for table in tables(found)]
    notes = "".join(f"note: {note}\n" for note in found.notes)
    return "\n".join([*blocks, notes] if notes else blocks)


def _head(one: Measurement | Speedup) -> tuple[str, str, str]:
    return str(one.frames), one.engine, variant(one.prune)


def times_text(value: float | None) -> str:
    """Return a ratio, or a dash for none."""
    return NONE if value is None else f"{value:.2f}x"


def _number(value: float | None) -> str:
    """Return a number with as many digits as it has meaning."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
