"""Kill real builds of the toy model at random moments, and look at what is left: `make kill-check`.

    python tests/smoke/kill_check.py FOLDER [KILLS]

Each build replaces a bundle by one of another prune fraction. After each kill a whole bundle must lie there, the old or
the new one, and whatever else lies beside it must be untouched. Stopped, it goes on where it was; counts are printed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest

conftest.prepare_imports()
from reference.toy_bundle import toy_config, toy_request, write_toy_recipe
from stts_export.pipeline import BuildRequest, build
from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import BundleError


KILLS = 300
FRACTIONS = (0.3, 0.6)
ENOUGH = 1.1
"""Kills come at up to so many times the seconds of a whole build."""


def main(folder: Path, kills: int) -> int:
    """Kill `kills` builds in all in `folder`; return 0 where nothing is broken or lost, else 1."""
    request = prepared(folder)
    file = folder / "counts.json"
    counts = Counter(json.loads(file.read_text())) if file.exists() else Counter()
    begun = time.monotonic()
    finished(started(replace(request, prune=FRACTIONS[0])))
    seconds = time.monotonic() - begun
    others = digests(folder, request.output)
    while counts["killed"] < kills:
        child = started(replace(request, prune=FRACTIONS[(counts["killed"] + 1) % 2]))
        time.sleep(random.uniform(0, ENOUGH * seconds))
        os.kill(child, signal.SIGKILL)
        counts["killed" if finished(child) else "finished before"] += 1
        counts["broken outputs"] += not is_whole(request.output)
        counts["lost files"] += len(others.items() - digests(folder, request.output).items())
        counts["left beside"] = max(counts["left beside"], left_beside(folder, others))
        write_whole(file, lambda path: path.write_text(json.dumps(counts)))
        print(dict(counts), flush=True)
    finished(started(request))
    left = left_beside(folder, others)
    print(f"{counts['killed']} killed: broken outputs {counts['broken outputs']}, lost files {counts['lost files']}; "
          f"after a whole build {left} files are left beside")  # fmt: skip
    return 1 if counts["broken outputs"] or counts["lost files"] else 0


def prepared(folder: Path) -> BuildRequest:
    """Return what to build; recipe and checkpoint are made where they are missing."""
    output = folder / "toy.stts"
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        toy_request(folder, "ffd")
        (folder / "made").touch()
    recipe = write_toy_recipe(folder / "ffd.toml", toy_config("qwen3", "learned"))
    return BuildRequest(
        model=str(recipe),
        checkpoint=folder / "ffd-checkpoint",
        output=output,
        overwrite=True,
        max_frames=8,
        max_tokens=512,
        chunk_frames=3,
    )


def started(request: BuildRequest) -> int:
    """Return the process of a fork that builds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            build(request, lambda stage, share: None)
            status = 0
        finally:
            os._exit(status)
    return child


def finished(child: int) -> bool:
    """Return whether a build was killed, when it has ended; a build that fails is a bug of this script."""
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a build failed")
    return os.WIFSIGNALED(status)


def is_whole(bundle: Path) -> bool:
    try:
        return open_bundle(bundle, check=True).manifest.pruning.fraction in FRACTIONS
    except BundleError as error:
        print(error, flush=True)
        return False


def digests(folder: Path, bundle: Path) -> dict[str, str]:
    """Return path -> SHA-256 of all files beside the bundle that no build writes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("counts", ".")))
    own = (bundle.name, f".{bundle.name}")
    return {str(path): sha256_of_file(path) for path in files if not path.relative_to(folder).parts[0].startswith(own)}


def left_beside(folder: Path, others: dict[str, str]) -> int:
    names = {path.name for path in folder.iterdir()}
    return len(names - {Path(path).relative_to(folder).parts[0] for path in others} - {"toy.stts", "counts.json"})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else KILLS))
