"""A bench as tables: Markdown for a page, rich for a terminal."""

from __future__ import annotations

from rich.table import Table

from stts_export.bench.run import BenchResult
from stts_export.report.tables import markdown_table, terminal_table
from stts_runtime.bench.measurement import variant
from stts_runtime.bench.table import tables, times_text
from stts_runtime.text_table import NONE, Rows


def all_tables(result: BenchResult) -> tuple[Rows, ...]:
    """Return every table of a bench."""
    found = tables(result.found)
    made = [*found[:1], *([against_rows(result)] if result.against else []), *found[1:]]
    for table in (opening_rows(result), figure_rows(result)):
        made += [table] if table.rows else []
    return tuple(made)


def against_rows(result: BenchResult) -> Rows:
    """Return how many times longer other engines take for vision and prefill."""
    rows = tuple(
        (
            str(one.frames),
            one.engine,
            variant(one.prune),
            times_text(one.same_work),
            times_text(one.pruned_bundle),
            NONE if one.same_answer is None else "yes" if one.same_answer else "no",
        )
        for one in result.against
    )
    headers = ("T", "engine", "variant", "same work", "pruned", "same tokens")
    return Rows(
        "Vision and prefill in times of the bundle's for the same work, and pruned: above 1 the bundle is faster",
        headers,
        rows,
    )


def opening_rows(result: BenchResult) -> Rows:
    """Return what opening each bundle takes."""
    opened = {} if result.startup is None else result.startup.bundles
    rows = tuple(
        (name, f"{one.seconds:.2f} s", *map(_mib, (one.own_mib, one.mapped_mib, one.disk_mib)))
        for name, one in opened.items()
    )
    title = "Opening, and MiB then: the process's own, of mapped files, and on disk"
    return Rows(title, ("engine", "opening", "own", "mapped", "disk"), rows)


def _mib(size: float | None) -> str:
    return NONE if size is None else f"{size:.0f}"


def figure_rows(result: BenchResult) -> Rows:
    """Return what was measured in fresh processes."""
    rows: list[tuple[str, str]] = []
    if result.startup is not None:
        rows.append(("import of stts_runtime", f"{result.startup.import_seconds:.2f} s"))
    memory = result.score_memory
    if memory is not None:
        for frames, mib in zip(memory.frames, memory.working_mib, strict=True):
            shown = "not measured: the system keeps no peak that can be set back" if mib is None else f"{mib:.0f} MiB"
            rows.append((f"working memory of vision_score, T = {frames}", shown))
        if memory.ratio is not None and len(memory.frames) > 1:
            rows.append((f"the same, T = {memory.frames[-1]} by T = {memory.frames[0]}", f"{memory.ratio:.2f}x"))
    return Rows("In processes of their own", ("figure", "value"), tuple(rows))


def markdown_report(result: BenchResult) -> str:
    """Return the bench as a Markdown page; the picture lies beside it."""
    machine, video = result.machine, result.video
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    facts = [
        f"Machine: {machine.processor}, {machine.cores} cores ({machine.threads} threads used)",
        f"Memory and system: {machine.memory_gib:g} GiB, {machine.system}",
        f"Versions: {versions}",
        f"Clip: {video.name}, {video.width} x {video.height}, {video.frames} frames, {video.seconds:.1f} s",
        f"Medians of {result.repeats} passes after one to warm up, all of one T taking turns",
        f"The whole took {result.seconds / 60:.1f} minutes",
        *(f"Note: {note}" for note in result.found.notes),
    ]
    head = "".join(f"- {fact}\n" for fact in facts)
    blocks = [f"{table.title}.\n\n{markdown_table(table)}" for table in all_tables(result)]
    return "\n".join([f"# Bench of {result.bundle}\n", head, "![Time by stage](bench.png)\n", *blocks])


def terminal_report(result: BenchResult) -> list[Table]:
    """Return the tables for a rich console."""
    return list(map(terminal_table, all_tables(result)))
