"""One step of the check, in the Python that has a bundle's engine: `child.py PATHS COMMAND ...`.

COMMAND is one of `stts-runtime`, or `time`, which prints dense against pruned as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from typing import Any


def main() -> int:
    paths, *arguments = sys.argv[1:]
    first, *others = paths.split(os.pathsep)
    sys.path.insert(0, first)  # the runtime; wheels go last, so that what is installed here comes before them
    sys.path += others
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([first, *([inherited] if inherited else [])])  # engines' builders
    if arguments[0] == "time":
        return print_times(arguments[1:])
    from stts_runtime.cli import main as runtime

    return runtime(arguments)


def print_times(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--frames", type=int, nargs="+", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    asked = parser.parse_args(arguments)
    from stts_runtime.errors import SttsError

    try:
        sys.stdout.write(json.dumps(times(asked.bundle, asked.frames, asked.repeats, asked.tokens)))
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def times(bundle: str, lengths: list[int], repeats: int, tokens: int) -> dict[str, Any]:
    """Return medians for clips of noise, dense and pruned taking turns, and their ratios."""
    import numpy as np

    from stts_runtime import load
    from stts_runtime.bench.compare import Subject, fractions_to_compare, take_turns
    from stts_runtime.bench.measurement import comparisons
    from stts_runtime.bench.trial import answer_once, check_bench_limits
    from stts_runtime.bundle.plain import to_plain
    from stts_runtime.timings import Timings

    with load(bundle) as session:
        fractions, size = fractions_to_compare(session, None), session.manifest.grid.image_size

        def subject(prune: float) -> Subject:
            def answer(clip: Any, timings: Timings) -> tuple[int, ...]:
                return answer_once(session, clip, prune, tokens, timings)

            def warm_up(clip: Any) -> None:
                answer(clip, Timings())

            return Subject("bundle", prune, answer, warm_up)

        for prune in fractions:
            session.open(prune)
        measured = []
        for length in lengths:
            check_bench_limits(session.manifest, length, tokens)
            noise = np.random.default_rng(0).integers(0, 256, (length, size, size, 3), np.uint8)
            subjects = [subject(prune) for prune in fractions]
            measured += take_turns(subjects, partial(session.read, noise), repeats, lambda subject, length: None)
        return {"measurements": to_plain(measured), "comparisons": to_plain(comparisons(measured))}


if __name__ == "__main__":
    sys.exit(main())
