"""`stts-runtime completion` and `stts-export completion`: a script with which a shell completes the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from stts_runtime.cli.command import add_command, path_or_name, png_path
from stts_runtime.errors import UsageError


SHELLS = ("bash", "zsh", "fish")
_EXAMPLES = """examples:
  bash:  {program} completion bash > ~/.local/share/bash-completion/completions/{program}
  zsh:   {program} completion zsh > DIR/_{program}, DIR one of $fpath (print -l $fpath)
  fish:  {program} completion fish > ~/.config/fish/completions/{program}.fish

The next shell knows it. Write it again after an upgrade.
"""


def add_completion(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    make_parser: Callable[[], argparse.ArgumentParser],
    program: str,
    install: str,
) -> None:
    """Add the command.

    Args:
        commands: of the program.
        make_parser: makes the program's parser, with all its commands.
        program: what it is called.
        install: what brings the library that writes such scripts, for the message where it is missing.
    """

    def run(arguments: argparse.Namespace) -> int:
        print(completion(make_parser(), arguments.shell, install), end="")
        return 0

    summary = "Print a script with which a shell completes commands, options and files."
    parser = add_command(commands, "completion", run, summary, _EXAMPLES.format(program=program))
    parser.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def completion(parser: argparse.ArgumentParser, shell: str, install: str) -> str:
    """Return the script of a shell.

    Raises:
        UsageError: the library that writes it is not installed; says how it is had.
    """
    try:
        import shtab
    except ImportError:
        raise UsageError(f"completion scripts are written by shtab, which is not installed: {install}") from None
    _complete_files(parser, shtab.FILE)
    script = shtab.complete(parser, shell)
    return script if script.endswith("\n") else f"{script}\n"


def _complete_files(parser: argparse.ArgumentParser, file: dict[str, str]) -> None:
    """Mark what takes a path, or a path among others, in all commands: a shell completes folders with files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, file)
        elif action.type in (Path, path_or_name, png_path):
            vars(action)["complete"] = file  # where shtab looks
