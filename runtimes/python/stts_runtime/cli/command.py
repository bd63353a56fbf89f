"""What every command has: its options, a line that says what is being done, errors as one message and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stts_runtime.cli.missing import missing_package
from stts_runtime.errors import SttsError


def guarded(
    make_parser: Callable[[], argparse.ArgumentParser],
    arguments: Sequence[str] | None,
    distribution: str = "stts-runtime",
) -> int:
    """Parse, call the chosen command, and turn errors into one message and an exit code.

    Commands are set as `run`, a function of the parsed arguments that returns an exit code. Where a package is missing,
    the metadata of `distribution` tells what installs it.
    """
    return guarded_call(lambda: make_parser().parse_args(arguments), distribution)


def guarded_call(parse: Callable[[], argparse.Namespace], distribution: str) -> int:
    """Do what `guarded` does with arguments that somebody else's parser may have read."""
    debug = False
    try:
        open_standard_streams()
        parsed = parse()
        debug = parsed.debug
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
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        missing = missing_package(error, distribution) if isinstance(error, ImportError) else None
        if debug and missing is None:
            raise
        advice = "This is a bug. Run again with --debug and report what it prints."
        message, code = missing or f"{type(error).__name__}: {error}\n{advice}", 1
    if debug:
        import traceback

        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


def open_standard_streams() -> None:
    """Let the standard streams take whatever is written: closed ones nowhere, other encodings than UTF-8 with escapes.

    Else the next file that is opened gets a closed one's number, and what a library prints goes into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  as long as the process runs
    with contextlib.suppress(AttributeError):  # somebody put another stream in its place
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


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
    add_shared_options(parser)
    parser.set_defaults(run=run)
    return parser


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="print a traceback with an error")


BUNDLE = "a bundle: its directory, NAME.stts, or its name on a hub, ORG/NAME[@REVISION]"
"""Help of an argument that names one; its type is `path_or_name`."""


def path_or_name(text: str) -> str:
    """Return an argument that is a path or a name, as text: a path would lose the `./` that tells them apart.

    A shell completes files where an argument has this type, or is a path.
    """
    return text


def png_path(text: str) -> Path:
    """Return an argument that is the path of a picture to be written."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"{text}: the picture is written as .png, so its name has to end in that")
    return path


def bundle_folder(place: str) -> Path:
    """Return the folder of the bundle that a person named, fetching it where it is on a hub."""
    from stts_runtime.bundle.locate import locate_bundle

    folder = locate_bundle(place, show_progress, log_note)
    clear_progress()
    return folder


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


def log_note(text: str) -> None:
    """Tell the person at the terminal what no code needs to know."""
    note(f"note: {text}")
