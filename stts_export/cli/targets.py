"""`stts-export targets`."""

from __future__ import annotations

import argparse

from stts_runtime.cli import add_command, path_or_name


EXAMPLES = """examples:
  stts-export targets
  stts-export targets jetson-orin
  stts-export targets jetson-thor --json
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "targets", run, "List what can be built for, or say all about one.", EXAMPLES)
    parser.add_argument(
        "name", type=path_or_name, nargs="?", help="a target's name or recipe file (default: all of them)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the targets."""
    from stts_export.cli.console import print_json, print_tables
    from stts_export.recipe.target import all_targets, read_target
    from stts_export.report.targets import software_rows, target_facts, targets_rows
    from stts_runtime.bundle.plain import to_plain

    if arguments.name is None:
        targets = all_targets()
        if arguments.json:
            print_json(targets)
        else:
            print_tables([targets_rows(targets)])
        return 0
    target = read_target(arguments.name)
    software = software_rows(target)
    if arguments.json:
        print_json({**to_plain(target), "software": software.records()})
        return 0
    for name, value in target_facts(target):
        print(f"{name:<24}{value}")
    if software.rows:
        print_tables([software])
    return 0
