"""`stts-export verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import BUNDLE, add_command, bundle_folder, log_note, path_or_name


EXAMPLES = """examples:
  stts-export verify micro.stts
  stts-export verify speed.stts --checkpoint ~/Molmo2-4B
  stts-export verify broken.stts --reduce why    which operator, and the smallest graph that shows it

The graphs run on this machine's CPU, whatever they were built for. The engines made of them are compared on the device:
`stts-runtime verify`.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Compare a bundle, layer by layer and to its answers, with the torch model it was made from."
    parser = add_command(commands, "verify", run, summary, EXAMPLES)
    parser.add_argument("bundle", type=path_or_name, help=BUNDLE)
    parser.add_argument(
        "--checkpoint",
        type=path_or_name,
        help="compute the reference anew from these weights, a folder or a name on a hub, for a bundle built with "
        "--no-verify",
    )
    parser.add_argument(
        "--reduce",
        type=Path,
        metavar="DIR",
        help="where a part fails, find the operator at fault and write it to DIR: a graph, its inputs, torch's results",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run every graph and print the report."""
    import json
    import shutil

    from rich.console import Console

    from stts_export.checkpoint.locate import find_checkpoint
    from stts_export.checkpoint.open import open_checkpoint
    from stts_export.quantise.scaling import as_scaled
    from stts_export.verify.record import model_of, record_bundle, scales_of
    from stts_export.verify.reduce import check_reducible, reduce_bundle
    from stts_export.verify.reduced import reduced_lines
    from stts_export.verify.report import render_report
    from stts_export.verify.verify_bundle import verify_bundle
    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.bundle.plain import to_plain
    from stts_runtime.verify.reference import reference_of
    from stts_runtime.verify.report import report_json

    bundle, folder, found = open_bundle(bundle_folder(arguments.bundle)), arguments.reduce, None
    if folder is not None:
        check_reducible(bundle, folder, has_checkpoint=arguments.checkpoint is not None)
    with progress_bars() as on_progress:
        if arguments.checkpoint is None:
            reference, floats = reference_of(bundle), None
        else:
            config = model_of(bundle)
            path = find_checkpoint(arguments.checkpoint, on_progress, log_note)
            assert path is not None, "it was given"
            floats = config, as_scaled(open_checkpoint(path, config), config.decoder, scales_of(bundle))
            reference = record_bundle(bundle, *floats, on_progress)
        result = verify_bundle(bundle, reference, on_progress, floats)
    try:
        if folder is not None:
            with progress_bars() as on_progress:
                found = reduce_bundle(bundle, reference, result, folder, floats, on_progress)
    finally:
        if arguments.json:
            reduced = {} if folder is None else {"reduced": found and {"verdict": found.verdict, **to_plain(found)}}
            print(json.dumps({**json.loads(report_json(result)), **reduced}, indent=2))
        else:
            Console().print(render_report(result))
    if folder is not None and not arguments.json:
        print("\n".join(reduced_lines(found, polygraphy=shutil.which("polygraphy") is not None)))
    return 0 if result.ok else 1
