"""The commands that the pages show, as words, and the real parsers to read them with."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from stts_export import cli as export
from stts_runtime import cli as runtime


ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*/*.md", "findings/*.md", "*/*/README.md")
    for page in ROOT.glob(pattern)
)
OURS = {"stts-export": export, "stts-runtime": runtime}


class Command(NamedTuple):
    """A command of a page."""

    words: tuple[str, ...]
    line: str  # as it stands there

    @property
    def program(self) -> str:
        """What is run."""
        return self.words[0]


def commands(text: str) -> tuple[Command, ...]:
    """Return what a page shows to be typed: its indented lines and its blocks of shell, a command each.

    Lines that go on behind a backslash are one; comments, pipes and what comes behind `>` are left out, and so are
    variables before a command.
    """
    blocks = re.findall(r"(?:^ {4}\S.*\n(?:^ {4,}\S.*\n|^\n(?= {4}))*)", without_fences(text), re.M)
    blocks += [
        f"    {line}\n" for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()
    ]
    found = []
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found += [Command(words, line.strip()) for words in split(line)]
    return tuple(found)


def without_fences(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```\n", "", text, flags=re.M | re.S)


def split(line: str) -> list[tuple[str, ...]]:
    """Return the commands of a line, none where it is no shell's."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    reader.whitespace_split = True
    try:
        words = list(reader)
    except ValueError:  # a quotation mark alone: prose, or what a command prints
        return []
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("&|;<>"):
            found.append([])
        else:
            found[-1].append(word)
    if ">" in words:
        del found[-1]
    return [tuple(words) for one in found if (words := _without_variables(one))]


def _without_variables(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_0-9]+=", words[0]):
        words = words[1:]
    return words


def ours(text: str) -> tuple[Command, ...]:
    """Return the commands of a page that are our own."""
    return tuple(command for command in commands(text) if command.program in OURS)


def parsed(command: Command) -> argparse.Namespace:
    """Return what our own parser makes of a command; SystemExit where it takes none of it."""
    return OURS[command.program]._parser().parse_args(command.words[1:])


def known_options(program: str, command: str) -> dict[str, argparse.Action]:
    """Return the options of a command of ours; KeyError where there is no such command."""
    (choices,) = (action.choices for action in OURS[program]._parser()._actions if action.choices)
    return choices[command]._option_string_actions  # type: ignore[index]  a table of parsers by name
