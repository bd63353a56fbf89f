#!/usr/bin/env python3
"""Write docs/errors.md: every message of our errors, when it comes and what to do, from the source of both packages.

    python tools/error_page.py > docs/errors.md

`error_messages.py` finds them; a test holds the page to what it finds now.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import groupby

from error_messages import Kind, Message, kinds_of, messages, sources
from error_text import text


ROOMS = {
    "Models, checkpoints, hubs": (
        "stts_export/recipe", "stts_export/checkpoint", "stts_export/models", "stts_runtime/hub",
    ),
    "Estimating and building": (
        "stts_export/cli/", "stts_export/estimate", "stts_export/pipeline", "stts_export/quantise",
        "stts_export/calibrate", "stts_export/parts", "stts_export/graph", "stts_export/bundle", "stts_export/kernels",
        "stts_export/installed", "stts_export/demo", "stts_export/publish",
    ),
    "Reading a bundle": ("stts_runtime/bundle",),
    "On the device": ("stts_runtime/device", "stts_runtime/build.py", "stts_runtime/trt", "stts_runtime/engine"),
    "Asking": (
        "stts_runtime/cli", "stts_runtime/session.py", "stts_runtime/conversation.py", "stts_runtime/images.py",
        "stts_runtime/clip", "stts_runtime/vision", "stts_runtime/language",
    ),
    "Streams": ("stts_runtime/live",),
    "Verifying": ("stts_export/verify", "stts_runtime/verify", "stts_export/conformance"),
    "Serving and batches": ("stts_runtime/serve", "stts_runtime/batch"),
    "Training and data": ("stts_export/train", "stts_export/data", "stts_export/output_folder"),
    "Measuring and looking": (
        "stts_export/evaluate", "stts_export/bench", "stts_runtime/bench", "stts_export/inspection",
        "stts_export/report",
    ),
}  # fmt: skip
"""Heading -> what the modules' paths begin with. Every module that has a message is under one."""

BASE_KINDS = ("Exception", "SttsError")
"""What goes without saying."""

VERBS = """
accept accept add ask begin build calibrate call change check choose close compare convert copy decode delete describe
download drop end evaluate export fetch fill force free generate give install keep leave load lower make measure mend
move name pad pass point prune pull push put raise record regenerate remove rename reset resume run save scale send set
ship shorten start stop take train try unset update upgrade use verify wait write
"""
WAY = re.compile(
    rf"(?:^|[:;.,?(\[|] |\b(?:or|and|then|to|first|either|must|so) )(?:{'|'.join(VERBS.split())})\b"
    r"|\bwant(?:ed|s)?\b|\b[Kk]nown(?::| are)|\bpip install|`(?:stts-|make|openssl)|\bDoes\b|\bIs (?:it|the)\b"
    r"|\bgoes on\b|\b(?:needs?|must|has to|have to)\b|\bsuch as\b|\bit (?:has|takes)\b|looks like|did you mean"
    r"|\binstall\}|\{(?:advice|instead|explanation|found.advice)\}|\bat (?:most|least)\b",
    re.I,
)
"""What a message has that says what to do, or what was wanted in place of what came."""

HEAD = """# Errors

Made by `tools/error_page.py` from the source of both packages, which a test holds it to; do not edit it.

A command tells what went wrong in one line, `error: ...`, on standard error, and ends with the exit code below;
`--debug` adds where it was raised. From Python the same text is the exception's. It says what, where, wanted, got, and
what to do next. Here is every one, by what was being done, with when it comes above each list. What is put in when one
comes stands in braces; `[these|or those]` are words that depend on something. **To find yours**, search this page for
some of its words that are no name or number of your own. What `verify` says of a bundle that computes something else is
no error of this kind: [Read a failing verify](tasks/failing-verify.md).

## Kinds

Each is a class; `except SttsError` catches all but what the server tells its clients. The last column is for messages
that name no way themselves, which are marked ▸.

"""


def page() -> str:
    """Return the page."""
    modules = sources()
    kinds, found = kinds_of(modules), messages(modules)
    return "".join((HEAD, kind_table(kinds), _others(modules), *rooms(found, kinds)))


def kind_table(kinds: dict[str, Kind]) -> str:
    """Return a table of the classes: what each means, and what to do of old."""
    lines = ["| class | exit code | means | what to do |", "|---|---|---|---|"]
    for kind in kinds.values():
        meaning, advice = [*kind.doc.split("\n\n"), ""][:2]
        code = "of HTTP" if kind.exit_code is None else str(kind.exit_code)
        name = f"`{kind.name}`" if kind.base in BASE_KINDS else f"`{kind.name}`, a `{kind.base}`"
        cells = (name, code, *(_line(one).replace("|", "\\|") for one in (meaning, advice)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _others(modules: dict[str, ast.Module]) -> str:
    """Return what a command says of what is none of our errors."""
    tree = modules["stts_runtime/cli/command.py"]
    (guard,) = (one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "guarded_call")
    lines = ["\nWhat is none of these ends a command with exit code 1, and says so:\n"]
    for handler in ast.walk(guard):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None:
            continue
        for node in ast.walk(handler):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and "; " in str(node.value)):
                lines.append(f"- {_code(' '.join(_shown(node).split()))} (`{ast.unparse(handler.type)}`)")
    return "\n".join(lines) + "\n"


def _shown(node: ast.expr) -> str:
    return text(node, {"advice": ast.Constant("This is a bug. Run again with --debug and report what it prints.")})


def rooms(found: tuple[Message, ...], kinds: dict[str, Kind]) -> Iterator[str]:
    """Yield the page's sections.

    Raises:
        ValueError: a module belongs to none of `ROOMS`, or to several.
    """
    rest = set(found)
    for title, prefixes in ROOMS.items():
        own = [message for message in found if message.module.startswith(prefixes)]
        if not own or not rest.issuperset(own):
            raise ValueError(f"{title}: no message, or one that has a heading already")
        rest -= set(own)
        yield f"\n## {title}\n"
        for module, here in groupby(own, lambda message: message.module):
            yield f"\n### `{module}`\n"
            listed = sorted(here, key=lambda message: (message.when, message.kind))
            for (when, kind, status), group in groupby(listed, lambda one: (one.when, one.kind, one.status)):
                code = f"exit code {kinds[kind].exit_code}" if status is None else f"HTTP {status}"
                yield f"\n**{kind}**, {code}: {_line(when)}.\n\n"
                for message in group:
                    yield f"- {_code(message.text)}{'' if names_a_way(message) else ' ▸'}\n"
    if rest:
        raise ValueError(f"{sorted({message.module for message in rest})}: under no heading of ROOMS")


def names_a_way(message: Message) -> bool:
    """Tell whether a message says what to do, or what was wanted."""
    return WAY.search(message.text) is not None


def _line(doc: str) -> str:
    return " ".join(doc.split())


def _code(text: str) -> str:
    """Return text as code, whatever is in it."""
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(page())
