"""`stts-runtime batch`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from stts_runtime.cli.command import (
    BUNDLE,
    add_command,
    bundle_folder,
    clear_progress,
    note,
    path_or_name,
    show_progress,
)


EXAMPLES = """examples:
  stts-runtime batch nano.stts --questions questions.jsonl -o answers.jsonl
  stts-runtime batch nano.stts --questions questions.jsonl --clips /data/clips --prune 0.5 -o answers.jsonl
  stts-runtime batch nano.stts --questions questions.jsonl -o answers.jsonl --ray --actors 4
  stts-runtime batch nano.stts --questions questions.jsonl -o answers.jsonl --ray ray://head:10001 --actors 16

A line of questions.jsonl:
  {"clip": "door.mp4", "question": "Who comes in?"}
and, if you like, with "prune", "frames", "max_tokens" and "id". Stopped, it goes on where it was.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "batch", run, "Answer a file of questions about many clips.", EXAMPLES)
    option = parser.add_argument
    option("bundle", type=path_or_name, help=BUNDLE)
    option("--questions", type=Path, required=True, metavar="FILE", help="JSON lines, see below")
    option("-o", "--output", type=Path, required=True, metavar="FILE", help="answers, JSON lines in the same order")
    option(
        "--clips", type=Path, metavar="DIR", help="folder that clips are named from (default: that of the questions)"
    )
    option("--prune", type=float, help="share of groups to drop, in [0, 1); 0 runs dense (default: the bundle's)")
    option("--frames", type=int, help="take exactly this many frames of a clip (default: the model's sampling)")
    option("--max-tokens", type=int, default=256, help="most tokens of an answer (default: %(default)s)")
    option("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: %(default)s)")
    option("--top-p", type=float, default=1.0, help="draw from the likeliest tokens only (default: %(default)s)")
    option("--seed", type=int, default=0, help="of the random draw (default: %(default)s)")
    option("--overwrite", action="store_true", help="replace finished answers")
    option(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="answer by Ray: at this address, `auto` for the cluster of this machine, nothing for this machine alone; "
        "bundle and clips have to lie at the same paths on every machine",
    )
    option(
        "--actors", type=int, default=2, help="with --ray: processes that hold the bundle open (default: %(default)s)"
    )
    option("--actor-cpus", type=float, default=1.0, help="with --ray: processors of each (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Answer the questions; 1 where one has no answer."""
    from stts_runtime.batch.answer import Settings
    from stts_runtime.batch.cluster import Cluster
    from stts_runtime.batch.run import BatchRequest, answer_batch, answer_here

    answering = answer_here
    if arguments.ray is not None:
        answering = Cluster(arguments.ray or None, arguments.actors, arguments.actor_cpus).checked().answer
    settings = Settings(
        arguments.prune,
        arguments.frames,
        arguments.max_tokens,
        arguments.temperature,
        arguments.top_p,
        arguments.seed,
    )
    request = BatchRequest(
        bundle_folder(arguments.bundle),
        arguments.questions,
        arguments.output,
        arguments.clips,
        settings,
        arguments.overwrite,
    )
    result = answer_batch(request, answering, lambda done, of: show_progress(f"{done} of {of} answers", done / of))
    clear_progress()
    if arguments.json:
        print(json.dumps(asdict(result), indent=2))
    else:
        before = f", {result.resumed} of them before" if result.resumed else ""
        note(f"{result.questions - result.failed} of {result.questions} questions answered{before}: {arguments.output}")
    if result.failed:
        note(f"{result.failed} without an answer; their lines say why: grep '\"error\"' {arguments.output}")
    return 1 if result.failed else 0
