"""Throw spoilt inputs at everything that reads inputs: `make fuzz`, or `python tests/hostile/fuzz.py --cases 300`.

Each case runs in a fork with limits. It passes where it is accepted or refused by one of our errors; a raw exception, a
crash, or a hang fails, and so does a changed bundle that is taken for whole. A case is found again by its kind and
seed: `--kind manifest --seed 17 --cases 1`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random


sys.path[:0] = [str(Path(__file__).parents[1])]

from hostile.forked import BAD, FINE, OURS, run_forked  # noqa: E402
from hostile.kinds import KINDS, Ground  # noqa: E402


SECONDS = 30.0  # a case; the slowest takes a second


def main() -> int:
    """Run the cases and return 0 where none is bad, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; each next one has the next")
    parser.add_argument("--kind", choices=sorted(KINDS), help="of all cases (default: by their shares)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this time")
    parser.add_argument("--ground", type=Path, help="folder with toy.stts, checkpoint and toy.toml (default: made)")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stts-fuzz-") as folder:
        root = arguments.ground or make_ground(Path(folder) / "ground")
        found = fuzz(root, Path(folder) / "scratch", arguments)
    bad = [one for one in found["cases"] if one["how"] in BAD]
    if arguments.json:
        counts = Counter(one["how"] for one in found["cases"])
        print(json.dumps({"seconds": found["seconds"], "counts": counts, "bad": bad}, indent=2))
    else:
        print(report(found))
        for one in bad:
            print(f"\n{one['how']}: --kind {one['kind']} --seed {one['seed']} --cases 1\n{one['text']}")
    return 1 if bad else 0


def make_ground(folder: Path) -> Path:
    """Build the toy bundle in another process, whose thread pools stay there, and return the folder."""
    code = "import sys, conftest; from pathlib import Path; conftest.prepare_imports(); "
    code += "from hostile.ground import make; make(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=Path(__file__).parents[1])
    return folder


def fuzz(root: Path, scratch: Path, arguments: argparse.Namespace) -> dict:
    """Run the cases one after the other; return counts and the cases."""
    begun = time.monotonic()
    cases = []
    names, shares = list(KINDS), [share for _, share in KINDS.values()]
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        if time.monotonic() - begun > arguments.seconds:
            break
        random = Random(f"stts {seed}")
        kind = random.choices(names, shares)[0]
        kind = arguments.kind or kind
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        ground = Ground(root / "toy.stts", root / "checkpoint", root / "toy.toml", scratch)
        outcome = run_forked(KINDS[kind][0](ground, random), SECONDS)
        cases.append(
            {"kind": kind, "seed": seed, "how": outcome.how, "text": outcome.text, "seconds": round(outcome.seconds, 2)}
        )
        if sys.stderr.isatty():
            print(f"\r{len(cases)} of {arguments.cases}", end="", file=sys.stderr)
    return {"seconds": round(time.monotonic() - begun, 1), "cases": cases}


def report(found: dict) -> str:
    """Return a table of how the cases of each kind ended."""
    counts = Counter((one["kind"], one["how"]) for one in found["cases"])
    kinds = [kind for kind in KINDS if any(kind == one for one, _ in counts)]
    ends = (FINE, OURS, *BAD)
    rows = [("kind", "cases", *ends)]
    for kind in (*kinds, "all"):
        row = [sum(n for (k, how), n in counts.items() if kind in (k, "all") and how == end) for end in ends]
        rows.append((kind, str(sum(row)), *map(str, row)))
    slowest = max((one["seconds"] for one in found["cases"]), default=0)
    lines = ["".join(f"{cell:>15}" if place else f"{cell:<15}" for place, cell in enumerate(row)) for row in rows]
    return "\n".join([*lines, f"{found['seconds']:.0f} s; the slowest case took {slowest:.1f} s"])


if __name__ == "__main__":
    sys.exit(main())
