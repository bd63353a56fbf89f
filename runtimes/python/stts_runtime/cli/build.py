"""`stts-runtime build`."""

from __future__ import annotations

import argparse
import json
import sys
import time

from stts_runtime.cli.command import add_command, clear_progress, note, path_or_name, show_progress


EXAMPLES = """examples:
  stts-runtime build micro.stts
  stts-runtime build micro.stts --compute-capability 86 120
  stts-runtime build micro.stts --force --workspace-mib 1024 --json

On a Jetson, build on the device, with other programs closed: a build takes three to four times a part's parameters in
memory. After an interruption, the same command goes on where it ended.
"""
_MIB = 1 << 20


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Build what a bundle runs on this device: TensorRT engines, or rounded weights packed for its CPU."
    parser = add_command(commands, "build", run, summary, EXAMPLES)
    parser.add_argument("bundle", type=path_or_name, help="a bundle directory, NAME.stts; one on a hub is pulled first")
    parser.add_argument(
        "--compute-capability",
        type=int,
        nargs="+",
        metavar="SM",
        help="SMs to build for, TensorRT-RTX only (default: this device's; without a GPU, the target's)",
    )
    parser.add_argument("--workspace-mib", type=int, help="most scratch memory of a layer, in MiB (default: no limit)")
    parser.add_argument("--force", action="store_true", help="build again what is there and whole")


def run(arguments: argparse.Namespace) -> int:
    """Build the engines and say what they are."""
    from stts_runtime.build import DONE, REUSED, build_engines, part_and_phase
    from stts_runtime.bundle.engine_set import sm_text
    from stts_runtime.bundle.plain import to_plain

    reused: list[str] = []
    shown: set[str] = set()

    def say(text: str) -> None:
        clear_progress()
        note(text)

    def on_progress(stage: str, share: float) -> None:
        part, phase = part_and_phase(stage)
        if phase == REUSED:
            reused.append(part)
            say(f"{part}: reused")
        elif phase == DONE:
            say(f"{part}: built")
        else:
            if part not in shown and not sys.stderr.isatty():
                note(f"{part} ...")
            shown.add(part)
            show_progress(stage, share)

    started = time.monotonic()
    engines = build_engines(
        arguments.bundle,
        compute_capabilities=arguments.compute_capability,
        workspace=None if arguments.workspace_mib is None else arguments.workspace_mib * _MIB,
        on_progress=on_progress,
        log=lambda text: say(f"note: {text}"),
        force=arguments.force,
    )
    clear_progress()
    if arguments.json:
        print(json.dumps({"folder": engines.folder, "reused": reused, **to_plain(engines)}, indent=2))
        return 0
    for file in engines.files:
        how = "reused" if file.part in reused else f"{file.seconds:.0f} s"
        print(f"{file.part:<14} {file.size / _MIB:9.1f} MiB  {how}")
    total = sum(file.size for file in engines.files) / _MIB
    for_what = f", {sm_text(engines.compute_capabilities)}" if engines.compute_capabilities else ""
    print(
        f"{engines.backend} {engines.version}{for_what}, {engines.precision}: "
        f"{total:.1f} MiB in {time.monotonic() - started:.0f} s, in {arguments.bundle}/engines/{engines.folder}"
    )
    return 0
