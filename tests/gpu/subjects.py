"""What is checked, step by step: a bundle, the vision side of several in turns, the kernels without TensorRT."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernels import COMPARED, OPERATORS
from steps import CHILD, StepError, Steps, output_of, say


ANSWER_TOKENS = 16
KERNELS = "kernels"
_OLDEST_WITH_PLUGINS = 10  # TensorRT
_MOST_SECONDS = 120  # of a step that others do not depend on, so that one that hangs does not take their time


def steps_of(name: str, python: Sequence[str], tree: Path, runtime: Path, deadline: float) -> Steps:
    """Return the steps of a subject in the Python that has its engine.

    Raises:
        OSError: it cannot be started.
    """
    version = output_of([*python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"])
    sites = [tree / "site" / folder for folder in ("any", version)]
    paths = os.pathsep.join(str(path.resolve()) for path in (runtime, *sites))
    return Steps(name, [*python, str(CHILD), paths], deadline)


def check_bundle(steps: Steps, bundle: Path, arguments: Namespace) -> dict[str, Any]:
    """Return what the steps found, why some failed or could not be taken, and whether none failed."""
    engine = json.loads((bundle / "manifest.json").read_text())["engine"]
    found = steps.found
    found |= {"backend": engine["backend"], "ops": engine.get("ops", "portable"), "opens": False}
    with suppress(StepError):  # which is told, and ends this bundle
        steps.run("doctor", "doctor", str(bundle), "--json")
        if reason := too_old(found):
            found["failures"].pop("doctor", None)
            found["not_checkable"]["doctor"] = reason
        if "doctor" in found["failures"] or reason:
            return finished(found)
        if engine["backend"] != "onnxruntime":
            steps.run("build", "build", str(bundle), "--json")
        found["opens"] = "build" not in found["failures"]
        steps.run("verify", "verify", str(bundle), "--json")
        frames = [str(length) for length in arguments.frames]
        steps.run("times", "time", str(bundle), "--frames", *frames, "--repeats", str(arguments.repeats),
                  "--tokens", str(ANSWER_TOKENS))  # fmt: skip
    return finished(found)


def too_old(found: dict[str, Any]) -> str:
    """Return why this TensorRT can never run a bundle; empty if it can."""
    version = found["doctor"]["probe"]["tensorrt"]
    is_old = version is not None and int(version.split(".")[0]) < _OLDEST_WITH_PLUGINS
    if not is_old or found["backend"] != "tensorrt" or found["ops"] != "plugin":
        return ""
    return f"TensorRT {version} is here, and plugins are for TensorRT {_OLDEST_WITH_PLUGINS} and later"


def compare_vision(steps: Steps, bundles: Sequence[Path], arguments: Namespace) -> dict[str, Any]:
    """Return times of the vision side of bundles that one Python opens, taking turns, dense and pruned."""
    frames = [str(length) for length in arguments.vision_frames]
    each(steps, "vision", "vision", *map(str, bundles), "--frames", *frames, "--repeats", str(arguments.repeats))
    return finished(steps.found)


def check_kernels(steps: Steps, folder: Path, arguments: Namespace) -> dict[str, Any]:
    """Return what each operator's kernels did, and how they fare beside torch; one may fail without the others."""
    frames = ["--folder", str(folder.resolve()), "--frames", *map(str, arguments.vision_frames)]
    for operator in OPERATORS:
        each(steps, operator, "kernel", operator, *frames, "--check-frames", str(arguments.check_frames))
    for what in COMPARED:
        each(steps, f"{what} beside torch", "torch", what, *frames, "--device", arguments.torch_device)
    return finished(steps.found)


def each(steps: Steps, title: str, *words: str) -> None:
    """Take a step that others do not depend on."""
    with suppress(StepError):  # which is told
        steps.run(title, *words, most_seconds=_MOST_SECONDS)


def not_started(name: str, error: OSError) -> dict[str, Any]:
    """Return what is found where a Python cannot be started."""
    say(f"{name}: FAILED: {error}")
    return {"ok": False, "failures": {"start": str(error)}, "not_checkable": {}, "seconds": {}}


def finished(found: dict[str, Any]) -> dict[str, Any]:
    """Return `found`, judged."""
    found["ok"] = not found["failures"]
    return found
