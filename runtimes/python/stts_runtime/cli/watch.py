"""`stts-runtime watch`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, note, path_or_name
from stts_runtime.errors import UsageError


if TYPE_CHECKING:
    from stts_runtime.live.watch import Watch

EXAMPLES = """examples:
  stts-runtime watch 0 nano.stts --ask "What colour moves?"                                  # camera 0
  stts-runtime watch rtsp://USER:PASSWORD@HOST/PATH nano.stts --ask "What colour moves?" --every 5 --json
  stts-runtime watch clip.mp4 nano.stts --ask "What colour moves?"                           # played in real time
  stts-runtime watch 0 1 lite.stts --ask "Is the gate open?" --when yes --save moments --webhook https://HOST/PATH

A line is the seconds since the source's first frame, by its own clock, and the answer; --json prints an object a line.
Modes: settled (a frame's kept groups are decided when it comes) or exact (as a question about these frames alone would
decide, encoding those again that change by it).
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Ask one question again and again about what cameras, streams or files show now."
    parser = add_command(commands, "watch", run, summary, EXAMPLES)
    option = parser.add_argument
    option(
        "source",
        type=path_or_name,
        nargs="+",
        help="a camera's number, an address (rtsp://...), or a video file; several in turn",
    )
    option("bundle", type=path_or_name, help=BUNDLE)
    option("--ask", required=True, metavar="QUESTION", help="the question")
    option("--every", type=float, default=2.0, metavar="S", help="seconds between answers (default: %(default)s)")
    option(
        "--frames",
        type=int,
        metavar="W",
        help="most frames of the window, even where the model sees two as one (default: 32, or the model's own most)",
    )
    option("--fps", type=float, help="frames a second that are taken (default: the model's highest)")
    option("--mode", default="settled", help="settled or exact, see below (default: %(default)s)")
    option("--prune", type=float, help="share of groups to drop, in (0, 1) (default: the bundle's)")
    option("--when", metavar="WORDS", help="the words that an answer begins with that is waited for, such as yes")
    option("--webhook", metavar="URL", help="post each answer there as JSON; with --when, those that match")
    option("--save", type=Path, metavar="DIR", help="with --when: save a clip around each moment that begins to match")
    option("--before", type=float, default=5.0, metavar="S", help="seconds of it before the moment (default: 5)")
    option("--after", type=float, default=5.0, metavar="S", help="seconds of it behind the moment (default: 5)")
    option("--answers", type=int, metavar="N", help="end after N answers (default: when every source has ended)")
    option("--max-tokens", type=int, default=64, help="most tokens of an answer (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print the answers as they are made, until the sources end or somebody ends it."""
    from stts_runtime.live.records import watching_from
    from stts_runtime.live.watch import Watch
    from stts_runtime.session import load
    from stts_runtime.termination import termination_as_exit

    if arguments.answers is not None and arguments.answers < 1:
        raise UsageError(f"--answers is {arguments.answers}, wanted at least 1")
    names = ("every", "frames", "fps", "mode", "prune", "when", "webhook", "save", "before", "after", "max_tokens")
    watching = watching_from(arguments.ask, {name: getattr(arguments, name) for name in names})
    with termination_as_exit(), load(bundle_folder(arguments.bundle)) as model:
        for text in (*model.manifest.notes, *model.notes):
            note(f"note: {text}")
        with Watch(model, arguments.source, watching, lambda text: note(f"note: {text}")) as watch:
            try:
                _print(watch, arguments)
            except KeyboardInterrupt:
                note("ended")
        note(_summary(watch))
    return 0


def _print(watch: Watch, arguments: argparse.Namespace) -> None:
    for count, answer in enumerate(watch, 1):
        if arguments.json:
            print(json.dumps(answer.plain()), flush=True)
        else:
            source = f"{answer.source}  " if len(watch.sources) > 1 else ""
            mark = "" if answer.matches is None else "* " if answer.matches else "  "
            print(f"{source}{answer.time:8.1f} s  {mark}{answer.answer.strip()}", flush=True)
        if count == arguments.answers:
            return


def _summary(watch: Watch) -> str:
    words = [f"{sum(one.answers for one in watch.sources)} answers"]
    feeds = [one.feed for one in watch.sources]
    words.append(f"{sum(feed.dropped for feed in feeds)} frames dropped while others were looked at")
    if again := sum(feed.connections - 1 for feed in feeds):
        words.append(f"{again} times opened again")
    if recordings := [one.recording for one in watch.sources if one.recording is not None]:
        words.append(f"{sum(one.saved for one in recordings)} clips saved, {sum(one.failed for one in recordings)} not")
    if watch.webhook is not None:
        words.append(f"{watch.webhook.sent} answers posted, {watch.webhook.failed} not")
    return ", ".join(words)
