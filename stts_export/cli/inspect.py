"""`stts-export inspect`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import add_command


EXAMPLES = """examples:
  stts-export inspect micro.stts
  stts-export inspect micro.stts --check
  stts-export inspect micro.stts --video clip.mp4 --picture pruned.png
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Say what a bundle holds, check every byte of it, or draw what it prunes from a video."
    parser = add_command(commands, "inspect", run, summary, EXAMPLES)
    parser.add_argument("bundle", type=Path, help="a bundle directory, NAME.stts")
    parser.add_argument("--check", action="store_true", help="compare every file with its digest")
    parser.add_argument("--video", type=Path, help="draw what is pruned from this video")
    parser.add_argument("--picture", type=Path, help="where to, .png or .html (default: VIDEO-pruned.png, here)")
    parser.add_argument("--prune", type=float, help="share of groups to drop (default: the bundle's)")
    parser.add_argument("--frames", type=int, help="take exactly this many frames (default: the model's sampling)")


def run(arguments: argparse.Namespace) -> int:
    """Print the summary; check and draw where asked."""
    from stts_export.bundle.summary import bundle_summary, summary_lines
    from stts_export.report.inspection import draw_pruning
    from stts_runtime.bundle import open_bundle

    if arguments.check:
        with progress_bars() as report:
            open_bundle(
                arguments.bundle, check=True, progress=lambda done, total: report("check", done / max(1, total))
            )
    summary = bundle_summary(arguments.bundle)
    if arguments.check:
        summary["checked"] = "every byte of every file"
    if arguments.video is not None:
        picture = arguments.picture or Path(f"{arguments.video.stem}-pruned.png")
        draw_pruning(arguments.bundle, arguments.video, picture, prune=arguments.prune, frames=arguments.frames)
        summary["picture"] = str(picture)
    print(json.dumps(summary, indent=2) if arguments.json else "\n".join(summary_lines(summary)))
    return 0
