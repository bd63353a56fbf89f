"""`optimum-cli export stts`: `stts-export build` as a command of optimum's.

Installed, it lies at `optimum/commands/register/stts.py`, see `pyproject.toml`. Optimum imports all files of that
folder when `optimum-cli` starts, and adds what their `REGISTER_COMMANDS` list. The folders are optimum's namespace and
have no `__init__.py`. Nothing but optimum imports this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from stts_export.cli import build
from stts_runtime.cli import add_shared_options, guarded_call


EXAMPLES = """examples:
  optimum-cli export stts -m micro micro.stts
  optimum-cli export stts -m ~/Molmo2-4B --scorer cosine --prune 0.5 --target jetson-orin pruned.stts

Options and bundle are those of `stts-export build`. OUTPUT goes before --keep-float, which takes all that follows it.
"""


class SttsExportCommand(BaseOptimumCLICommand):
    """The command, as optimum wants it."""

    COMMAND = CommandInfo(name="stts", help=f"{build.SUMMARY} (video models with STTS token pruning)")

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.description, parser.epilog = build.SUMMARY, EXAMPLES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument("output", type=Path, help=build.OUTPUT_HELP)
        build.add_options(parser, "-m", "--model")
        add_shared_options(parser)

    def run(self) -> None:
        """Build, and leave with the exit code that `stts-export build` has: optimum knows none of a command's own."""
        self.args.run = build.run
        code = guarded_call(lambda: self.args, "stts-export")
        if code:
            raise SystemExit(code)


REGISTER_COMMANDS = [(SttsExportCommand, ExportCommand)]
