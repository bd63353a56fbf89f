#!/usr/bin/env python3
"""Pack bundles, the runtime's source and a few wheels into parts that `gpu_check.py` runs from; see README.md."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from archive import write_parts


RUNTIME = Path(__file__).parents[2] / "runtimes" / "python" / "stts_runtime"
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for the parts; what was in it is removed")
    parser.add_argument(
        "--bundle", action="append", required=True, metavar="NAME=PATH", help="a bundle, and what to call it"
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels that Pythons there may lack")
    parser.add_argument("--part-mib", type=float, default=44, help="largest size of a part (default: %(default)s)")
    arguments = parser.parse_args()
    files = {f"runtime/stts_runtime/{name}": path for name, path in files_of(RUNTIME, "*.py").items()}
    for text in arguments.bundle:
        name, _, path = text.partition("=")
        found = files_of(Path(path))
        if "manifest.json" not in found:
            parser.error(f"--bundle {text}: wanted NAME=PATH of a bundle")
        if "verify/reference.npz" not in found:
            parser.error(f"--bundle {text}: it was built with --no-verify and holds nothing to compare with")
        # engines are built there; those of this machine are of no use
        files |= {f"bundles/{name}.stts/{file}": at for file, at in found.items() if not file.startswith("engines/")}
    if arguments.wheels is not None:
        files |= {f"wheels/{name}": path for name, path in files_of(arguments.wheels, "*.whl").items()}
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    count = write_parts(files, arguments.output, int(arguments.part_mib * MIB))
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    sys.stdout.write(f"{count} parts, {size / MIB:.0f} MiB, in {arguments.output}\n")
    return 0


def files_of(folder: Path, pattern: str = "*") -> dict[str, Path]:
    """Return the files below a folder by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob(pattern)) if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
