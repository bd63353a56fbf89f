"""The command `stts-runtime`: parse, call, print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stts_runtime.errors import SttsError
from stts_runtime.profile import STAGES, Profile


RUN_EXAMPLE = """examples:
  stts-runtime run micro.stts --video clip.mp4 "What happens?"
  stts-runtime run micro.stts --video clip.mp4 --prune 0 --frames 16 "What happens?" "And then?"
  stts-runtime run micro.stts --video clip.mp4 --json "What happens?"
"""
BENCH_EXAMPLE = """examples:
  stts-runtime bench micro.stts --video clip.mp4
  stts-runtime bench micro.stts --video clip.mp4 --frames 8 16 --prune 0 0.5 --repeats 5 --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a failed check, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="stts-runtime", description="Ask a bundle about a video, or time it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands)
    add_bench(commands)
    return guarded(parser, arguments)


def guarded(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, call the chosen command, and turn errors into one message and an exit code.

    Commands are set as `run`, a function of the parsed arguments that returns an exit code.
    """
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed)
    except SttsError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted; nothing half-written was left behind", 1
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone: nothing to tell, and Python must not try at exit
        return 1
    except MemoryError as error:
        message, code = f"out of memory ({error}): use fewer frames, or a smaller model", 1
    except OSError as error:
        message, code = f"{error.filename or 'the system'}: {error.strerror or error}", 1
    except Exception as error:
        if parsed.debug:
            raise
        message, code = (
            f"{type(error).__name__}: {error}\nThis is a bug. Run again with --debug and report what it prints.",
            1,
        )
    if parsed.debug:
        import traceback

        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Return the parser of a new command, with what every command has: an example, --json and --debug."""
    parser = commands.add_parser(
        name, help=summary, description=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="print a traceback with an error")
    parser.set_defaults(run=run)
    return parser


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run`."""
    parser = add_command(commands, "run", run, "Ask one question, or several in turn, about a video.", RUN_EXAMPLE)
    parser.add_argument("bundle", type=Path, help="a bundle directory, NAME.stts")
    parser.add_argument("question", nargs="+", help="asked in turn; the video is looked at once")
    parser.add_argument("--video", type=Path, required=True, help="a video file")
    parser.add_argument(
        "--prune", type=float, help="share of groups to drop, in [0, 1); 0 runs dense (default: the bundle's)"
    )
    parser.add_argument(
        "--frames", type=int, help="take exactly this many frames, evenly (default: the model's sampling)"
    )
    parser.add_argument("--max-tokens", type=int, default=256, help="most tokens of an answer (default: %(default)s)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: %(default)s)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the likeliest tokens only (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random draw (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare every file with its digest first")
    parser.add_argument("--times", action="store_true", help="print the time of each stage")


def run(arguments: argparse.Namespace) -> int:
    """Ask the questions and print the answers as they are made."""
    from stts_runtime.generation import Generation
    from stts_runtime.session import load

    settings = Generation(arguments.max_tokens, arguments.temperature, arguments.top_p, arguments.seed)
    settings.check()
    turns = []
    with load(arguments.bundle, check=arguments.check) as model:
        note(f"looking at {arguments.video} ...")
        conversation = model.look(
            arguments.video, prune=arguments.prune, frames=arguments.frames, progress=show_progress
        )
        clear_progress()
        for text in (*model.manifest.notes, *conversation.notes):
            note(f"note: {text}")
        for question in arguments.question:
            pieces = []
            for piece in conversation.stream(question, settings):
                pieces.append(piece)
                if not arguments.json:
                    print(piece, end="", flush=True)
            if not arguments.json:
                print()
            turns.append({"question": question, "answer": "".join(pieces), **costs(conversation.profile, TURN)})
        looking = costs(conversation.profile, LOOKING)
        notes = [*model.manifest.notes, *conversation.notes]
    if arguments.json:
        print(json.dumps({"prune": conversation.prune_fraction, **looking, "turns": turns, "notes": notes}, indent=2))
    elif arguments.times:
        for title, cost in (("video", looking), *((turn["question"], turn) for turn in turns)):
            stages = [f"{stage} {milliseconds:.0f} ms" for stage, milliseconds in cost["milliseconds"].items()]
            counts = [f"{name.replace('_', ' ')} {count}" for name, count in cost["tokens"].items()]
            print(f"\n{title}\n  {', '.join(stages)}\n  {', '.join(counts)}")
    return 0


TURN = (*STAGES[-2:], "prompt_tokens", "answer_tokens")
LOOKING = (*STAGES[:-2], "frames", "groups", "kept_groups", "patches", "packed_patches")


def costs(profile: Profile, names: Sequence[str]) -> dict[str, Any]:
    """Return those times and counts of a profile that have one of the `names`."""
    return {
        "milliseconds": {name: profile.milliseconds[name] for name in names if name in profile.milliseconds},
        "tokens": {name: profile.tokens[name] for name in names if name in profile.tokens},
    }


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench`."""
    parser = add_command(
        commands, "bench", bench, "Time a bundle's stages, dense against pruned, in one run.", BENCH_EXAMPLE
    )
    add_bench_options(parser)


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Add what both bench commands take."""
    parser.add_argument("bundle", type=Path, help="a bundle directory, NAME.stts")
    parser.add_argument("--video", type=Path, required=True, help="a video file")
    parser.add_argument(
        "--dense", type=Path, help="a bundle built with --prune 0, for the dense runs (default: the same)"
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[8, 16, 32], help="numbers of frames (default: 8 16 32)"
    )
    parser.add_argument("--prune", type=float, nargs="+", help="fractions to compare (default: 0 and the bundle's)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs of each, after one warm-up (default: %(default)s)"
    )


def bench(arguments: argparse.Namespace) -> int:
    """Time the bundle and print its tables."""
    from stts_runtime.bench import bench as run_bench
    from stts_runtime.bench.table import text_report
    from stts_runtime.plain import to_plain

    found = run_bench(
        arguments.bundle,
        arguments.video,
        frames=arguments.frames,
        prune=arguments.prune,
        dense=arguments.dense,
        repeats=arguments.repeats,
        progress=show_progress,
    )
    clear_progress()
    print(json.dumps(to_plain(found), indent=2) if arguments.json else text_report(found))
    return 0


def show_progress(name: str, share: float) -> None:
    """Rewrite one line on standard error with what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {name}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the line that `show_progress` wrote."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print something for the person at the terminal, beside the result."""
    print(text, file=sys.stderr)
