#!/usr/bin/env python3
"""Turn a finished stage into weights that can be shipped: float16 shards of a bounded size, with where they came from.

The shards go to OUTPUT together with the stage's log, settings and whatever else is named; the model recipe then says
`assembly.trained`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from stts_export.checkpoint.trained import open_trained
from stts_runtime.errors import SttsError


MIB = 1 << 20


def main(given: list[str] | None = None) -> int:
    """Write the shards and the papers; `given` are the command line's words, by default this process's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", type=Path, help="RUN/STAGE of a finished stage")
    parser.add_argument("output", type=Path, help="folder for the shards, such as recipes/weights/micro; replaced")
    parser.add_argument("--papers", type=Path, nargs="*", default=[], help="files to lay beside them")
    parser.add_argument("--shard-mib", type=float, default=15, help="largest size of a shard (default: %(default)s)")
    parser.add_argument("--most", type=int, default=8, help="most shards (default: %(default)s)")
    arguments = parser.parse_args(given)
    try:
        trained = open_trained(arguments.stage / "trained.safetensors")
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    shards: list[dict[str, torch.Tensor]] = [{}]
    held = 0
    for name in sorted(trained.tensors):
        tensor = trained.tensors[name].read().half()
        if not torch.isfinite(tensor).all():
            sys.stderr.write(f"error: {name} does not fit float16\n")
            return 1
        if shards[-1] and held + tensor.nbytes > arguments.shard_mib * MIB - 64 * 1024:  # room for the header
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += tensor.nbytes
    if len(shards) > arguments.most:
        sys.stderr.write(f"error: {len(shards)} shards, wanted at most {arguments.most}: raise --shard-mib\n")
        return 1
    papers = [arguments.stage / "log.jsonl", arguments.stage / "settings.json", *arguments.papers]
    missing = [str(paper) for paper in papers if not paper.is_file()]
    if missing:
        sys.stderr.write(f"error: no such file: {', '.join(missing)}\n")
        return 1
    staging = arguments.output.with_name(f".{arguments.output.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for number, shard in enumerate(shards, start=1):
        name = f"trained-{number:02}-of-{len(shards):02}.safetensors"
        save_file(shard, staging / name, metadata=dict(trained.metadata))
    for paper in papers:
        shutil.copy(paper, staging / paper.name)
    shutil.rmtree(arguments.output, ignore_errors=True)
    staging.rename(arguments.output)
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    sys.stdout.write(f"{arguments.output}: {len(shards)} shards, {size / MIB:.1f} MiB in all\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
