"""Errors as one message and an exit code, whatever they are."""

import argparse

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

    assert guarded(parser_of(run), ["it"]) == code
    assert said in capsys.readouterr().err


def test_an_interruption_while_arguments_are_read_is_no_traceback(capsys):
    def interrupted(text):
        raise KeyboardInterrupt

    parser = parser_of(lambda arguments: 0)
    parser.add_argument("--number", type=interrupted)
    assert guarded(parser, ["--number", "1", "it"]) == 1
    assert "interrupted" in capsys.readouterr().err


def test_wrong_arguments_end_as_argparse_ends_them():
    with pytest.raises(SystemExit) as caught:
        guarded(parser_of(lambda arguments: 0), ["that"])
    assert caught.value.code == 2
