"""`stts-runtime run`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stts_runtime.cli.command import (
    BUNDLE,
    add_command,
    bundle_folder,
    clear_progress,
    note,
    path_or_name,
    show_progress,
)
from stts_runtime.timings import STAGES, Timings


EXAMPLES = """examples:
  stts-runtime run micro.stts --video clip.mp4 "What happens?"
  stts-runtime run micro.stts --video clip.mp4 --prune 0 --frames 16 "What happens?" "And then?"
  stts-runtime run micro.stts --video clip.mp4 --json "What happens?"
  stts-runtime run micro.stts --image a.jpg --image b.jpg "What is the difference?"
  stts-runtime run ORG/NAME --video clip.mp4 "What happens?"       # published on a hub
"""

TURN = (*STAGES[-2:], "prompt_tokens", "answer_tokens")
LOOKING = (*STAGES[:-2], "frames", "images", "crops", "groups", "kept_groups", "patches", "packed_patches")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands, "run", run, "Ask one question, or several in turn, about a video or images.", EXAMPLES
    )
    option = parser.add_argument
    option("bundle", type=path_or_name, help=BUNDLE)
    option("question", nargs="+", help="asked in turn; what is shown is looked at once")
    shown = parser.add_mutually_exclusive_group(required=True)
    shown.add_argument("--video", type=Path, help="a video file; a picture is a video of one frame")
    shown.add_argument(
        "--image",
        type=Path,
        action="append",
        help="an image file, for a bundle that knows images; more than once for several. Never pruned",
    )
    option("--prune", type=float, help="share of groups to drop, in [0, 1); 0 runs dense (default: the bundle's)")
    option("--frames", type=int, help="take exactly this many frames, evenly (default: the model's sampling)")
    option(
        "--stream", type=int, metavar="N", help="number of the video stream, as ffprobe shows it (default: as players)"
    )
    option("--max-tokens", type=int, default=256, help="most tokens of an answer (default: %(default)s)")
    option("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: %(default)s)")
    option("--top-p", type=float, default=1.0, help="draw from the likeliest tokens only (default: %(default)s)")
    option("--seed", type=int, default=0, help="of the random draw (default: %(default)s)")
    option("--check", action="store_true", help="compare every file with its digest first")
    option("--times", action="store_true", help="print the time of each stage")


def run(arguments: argparse.Namespace) -> int:
    """Ask the questions and print the answers as they are made."""
    from stts_runtime.language.generation import Generation
    from stts_runtime.language.prompt import check_question
    from stts_runtime.session import load

    settings = Generation(arguments.max_tokens, arguments.temperature, arguments.top_p, arguments.seed)
    settings.check()
    for question in arguments.question:
        check_question(question)
    turns = []
    with load(bundle_folder(arguments.bundle), check=arguments.check) as model:
        kind = "images" if arguments.image else "video"
        note(f"looking at {', '.join(map(str, arguments.image or [arguments.video]))} ...")
        conversation = model.look(
            arguments.image or arguments.video,
            kind=kind,
            prune=arguments.prune,
            frames=arguments.frames,
            video_stream=arguments.stream,
            questions=arguments.question,
            on_progress=show_progress,
        )
        clear_progress()
        for text in (*model.manifest.notes, *conversation.notes):
            note(f"note: {text}")
        for question in arguments.question:
            pieces, known = [], len(conversation.notes)
            for piece in conversation.stream(question, settings):
                pieces.append(piece)
                if not arguments.json:
                    print(piece, end="", flush=True)
            if not arguments.json:
                print()
            for text in conversation.notes[known:]:
                note(f"note: {text}")
            answer = {"answer": "".join(pieces), "finish_reason": conversation.finish_reason}
            turns.append({"question": question, **answer, **costs(conversation.timings, TURN)})
        looking = costs(conversation.timings, LOOKING)
        notes = [*model.manifest.notes, *conversation.notes]
    if arguments.json:
        print(json.dumps({"prune": conversation.prune_fraction, **looking, "turns": turns, "notes": notes}, indent=2))
    elif arguments.times:
        for title, cost in ((kind, looking), *((turn["question"], turn) for turn in turns)):
            stages = [f"{stage} {milliseconds:.0f} ms" for stage, milliseconds in cost["milliseconds"].items()]
            counts = [f"{name.replace('_', ' ')} {count}" for name, count in cost["tokens"].items()]
            print(f"\n{title}\n  {', '.join(stages)}\n  {', '.join(counts)}")
    return 0


def costs(timings: Timings, names: Sequence[str]) -> dict[str, Any]:
    """Return those times and counts that have one of the `names`."""
    return {
        "milliseconds": {name: timings.milliseconds[name] for name in names if name in timings.milliseconds},
        "tokens": {name: timings.tokens[name] for name in names if name in timings.tokens},
    }
