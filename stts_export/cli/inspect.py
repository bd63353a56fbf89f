"""`stts-export inspect`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import BUNDLE, add_command, bundle_folder, path_or_name


if TYPE_CHECKING:
    from stts_export.inspection.engines import EngineInspection
    from stts_export.inspection.vision_work import PartWork

EXAMPLES = """examples:
  stts-export inspect micro.stts
  stts-export inspect micro.stts --check
  stts-export inspect micro.stts --video clip.mp4 --picture pruned.png
  stts-export inspect rtx.stts --engines --compute-capability 86
  stts-export inspect plugin.stts --engines --against portable.stts
  stts-export inspect plugin.stts --work --frames 64
"""
WORK_FRAMES = 64


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Say what a bundle holds, check its bytes, draw what it prunes, or see what TensorRT makes of it."
    parser = add_command(commands, "inspect", run, summary, EXAMPLES)
    option = parser.add_argument
    option("bundle", type=path_or_name, help=BUNDLE)
    option("--check", action="store_true", help="compare every file with its digest")
    option(
        "--engines", action="store_true", help="build the engines once more, to see sizes, memory and fused attention"
    )
    option("--parts", nargs="+", help="with --engines: which parts (default: all)")
    option(
        "--compute-capability",
        type=int,
        nargs="+",
        metavar="SM",
        help="with --engines: an engine for each of these (default: one for all of the target's)",
    )
    option(
        "--all-fused",
        action="store_true",
        help="with --engines: fail unless every attention runs as one kernel, and every plugin as itself",
    )
    option("--against", type=path_or_name, metavar="OTHER", help="with --engines: those of another bundle beside them")
    option(
        "--work",
        action="store_true",
        help="count what the vision graphs compute and move for a clip, beside what the arithmetic of pruning needs",
    )
    option("--video", type=Path, help="draw what is pruned from this video")
    option("--picture", type=Path, help="where to, .png or .html (default: VIDEO-pruned.png, here)")
    option("--prune", type=float, help="share of groups to drop (default: the bundle's)")
    option(
        "--frames",
        type=int,
        help=f"take exactly this many frames (default: the model's sampling; with --work: {WORK_FRAMES} or the most)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the summary; check, build and draw where asked."""
    from rich.console import Console

    from stts_export.bundle.summary import bundle_summary, summary_lines
    from stts_export.cli.console import print_json
    from stts_export.inspection.against import comparison_rows
    from stts_export.inspection.engines import inspect_engines
    from stts_export.inspection.pruning import draw_pruning
    from stts_export.inspection.table import inspection_rows
    from stts_export.inspection.vision_work import vision_work, work_rows
    from stts_export.report.tables import terminal_table
    from stts_runtime.bundle.locate import bundle_title
    from stts_runtime.bundle.open import open_bundle

    folder = bundle_folder(arguments.bundle)
    if arguments.check:
        with progress_bars() as on_progress:
            open_bundle(folder, check=True, on_progress=on_progress)
    summary = bundle_summary(folder)
    if arguments.check:
        summary["checked"] = "every byte of every file"
    if arguments.video is not None:
        picture = arguments.picture or Path(f"{arguments.video.stem}-pruned.png")
        draw_pruning(folder, arguments.video, picture, prune=arguments.prune, frames=arguments.frames)
        summary["picture"] = str(picture)
    work: list[PartWork] = []
    if arguments.work:
        opened, frames = open_bundle(folder), arguments.frames
        if frames is None:
            frames = min(WORK_FRAMES, opened.manifest.most_frames)
        work = vision_work(opened, frames, arguments.prune)
    found: list[EngineInspection] = []
    beside: list[EngineInspection] = []
    if arguments.engines:
        sms = arguments.compute_capability and [(sm,) for sm in arguments.compute_capability]

        def inspected(bundle: Path, parts: Sequence[str] | None) -> list[EngineInspection]:
            with progress_bars() as on_progress:
                return inspect_engines(open_bundle(bundle), parts, sms, on_progress)

        found = inspected(folder, arguments.parts)
        if arguments.against is not None:
            against = bundle_folder(arguments.against)
            others = open_bundle(against).manifest.graphs
            beside = inspected(against, list(dict.fromkeys(one.part for one in found if one.part in others)))
    unfused = [one.part for one in found if not one.is_fused] if arguments.all_fused else []
    if arguments.json:
        print_json({**summary, "work": work, "inspected": found, "beside": beside})
        return 1 if unfused else 0
    print("\n".join(summary_lines(summary)))
    tables = [work_rows(work, frames)] if work else []
    tables += [inspection_rows(found)] if found else []
    if beside:
        tables.append(comparison_rows(found, beside, bundle_title(arguments.against)))
    for table in tables:
        Console(width=max(Console().width, 140)).print(terminal_table(table))
    if unfused:
        parts = ", ".join(dict.fromkeys(unfused))
        print(f"not everything is fused in {parts}: some attention stores all its logits", file=sys.stderr)
    return 1 if unfused else 0
