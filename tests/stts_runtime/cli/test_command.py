"""Errors as one message and an exit code, whatever they are."""

import argparse
import os
import subprocess
import sys

import pytest

from stts_runtime.cli.command import add_command, guarded
from stts_runtime.errors import UsageError


class Panic(BaseException):
    """What a library in Rust raises: no Exception."""


def parser_of(run):
    parser = argparse.ArgumentParser(prog="try")
    add_command(parser.add_subparsers(required=True), "it", run, "Try it.", "")
    return parser


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such clip"), 2, "error: no such clip"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (MemoryError("4 GiB"), 1, "out of memory (4 GiB)"),
        (FileNotFoundError(2, "No such file", "clip.mp4"), 1, "clip.mp4: No such file"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero\nThis is a bug"),
        (Panic("index out of bounds"), 1, "Panic: index out of bounds\nThis is a bug"),
    ],
)
def test_every_error_is_a_message_and_a_code(capsys, error, code, said):
    def run(arguments):
        raise error

    assert guarded(lambda: parser_of(run), ["it"]) == code
    assert said in capsys.readouterr().err


def test_an_interruption_while_arguments_are_read_is_no_traceback(capsys):
    def interrupted(text):
        raise KeyboardInterrupt

    parser = parser_of(lambda arguments: 0)
    parser.add_argument("--number", type=interrupted)
    assert guarded(lambda: parser, ["--number", "1", "it"]) == 1
    assert "interrupted" in capsys.readouterr().err


def test_wrong_arguments_end_as_argparse_ends_them():
    with pytest.raises(SystemExit) as caught:
        guarded(lambda: parser_of(lambda arguments: 0), ["that"])
    assert caught.value.code == 2


def test_an_interruption_before_arguments_are_read_is_no_traceback(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert guarded(interrupted, []) == 1
    assert "interrupted" in capsys.readouterr().err


COMMAND = """
import argparse, os, sys
from stts_runtime.cli.command import add_command, guarded, note, show_progress
def run(arguments):
    with open(os.environ["FILE"], "wb") as file:
        assert file.fileno() > 2
        show_progress("it", 0.5)
        note("beside")
        print("caf\\xe9 \\u2713")
    return 0
def parser():
    made = argparse.ArgumentParser()
    add_command(made.add_subparsers(required=True), "it", run, "Try it.", "")
    return made
sys.exit(guarded(parser, ["it"]))
"""


@pytest.mark.parametrize("closed", ["", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_and_narrow_encodings_lose_nothing(tmp_path, closed):
    command = f'exec {closed}; exec "$@"' if closed else 'exec "$@"'
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "FILE": str(tmp_path / "file")}
    ran = subprocess.run(
        ["bash", "-c", command, "sh", sys.executable, "-c", COMMAND], env=environment, capture_output=True, timeout=60
    )
    assert ran.returncode == 0
    assert ran.stdout == (b"" if ">&- 2" in closed else b"caf\\xe9 \\u2713\n")
    assert (tmp_path / "file").read_bytes() == b""
