#!/usr/bin/env python3
"""Pack bundles, kernels, the runtime's source and some wheels into parts for `gpu_check.py`; see README.md."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from archive import write_parts
from kernels import OPERATORS
from kernels.images import CUDA_CPP
from kernels.sizes import FILE as SIZES, Sizes


CHECKOUT = Path(__file__).parents[2]
RUNTIME = CHECKOUT / "runtimes" / "python" / "stts_runtime"
OPS = CHECKOUT / "stts_export" / "ops"
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for the parts; what was in it is removed")
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME=PATH", help="a bundle, and its name")
    parser.add_argument("--kernels", type=Path, help="the folder where `make plugins` works")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["micro", "molmo2-4b-lite-50"],
        help="recipes whose sizes kernels are checked at (default: %(default)s)",
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels that Pythons there may lack")
    parser.add_argument("--part-mib", type=float, default=44, help="largest size of a part (default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.bundle and arguments.kernels is None:
        parser.error("there is nothing to pack: give --bundle, --kernels or both")
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
    with tempfile.TemporaryDirectory() as made:
        if arguments.kernels is not None:
            try:
                files |= kernel_files(arguments.kernels, arguments.models, Path(made))
            except FileNotFoundError as error:
                parser.error(f"--kernels {arguments.kernels}: {error.filename} is not there; run `make plugins`")
        shutil.rmtree(arguments.output, ignore_errors=True)
        arguments.output.mkdir(parents=True)
        count = write_parts(files, arguments.output, int(arguments.part_mib * MIB))
    size = sum(path.stat().st_size for path in arguments.output.iterdir())
    sys.stdout.write(f"{count} parts, {size / MIB:.0f} MiB, in {arguments.output}\n")
    return 0


def kernel_files(folder: Path, models: list[str], made: Path) -> dict[str, Path]:
    """Return cubins, how they are launched, the models' sizes, and what says the truth of each operator.

    Of the compiler that is a package with nothing in it that needs more than numpy.
    """
    said = folder / "triton" / "kernels.json"
    images = {image["file"] for image in json.loads(said.read_text())["images"]}
    images |= {path.name for path in (folder / "kernels").glob("*.cubin") if path.stem.rpartition("-")[0] in CUDA_CPP}
    files = {f"kernels/{name}": folder / "kernels" / name for name in images} | {"kernels/kernels.json": said}
    (made / SIZES).write_text(json.dumps([asdict(sizes_of(model)) for model in models]))
    files[f"kernels/{SIZES}"] = made / SIZES
    truths = [OPS / "attention_truth.py", OPS / "case.py", *(OPS / name / "cases.py" for name in OPERATORS)]
    files |= {f"kernels/python/{path.relative_to(CHECKOUT).as_posix()}": path for path in truths}
    empty = made / "__init__.py"
    empty.write_text('"""What of stts-export says how operators are to work."""\n')
    packages = ("stts_export", "stts_export/ops", *(f"stts_export/ops/{name}" for name in OPERATORS))
    return files | {f"kernels/python/{name}/__init__.py": empty for name in packages}


def sizes_of(model: str) -> Sizes:
    """Return the sizes of a recipe's kernels."""
    from stts_export.recipe.read import read_model_recipe

    config = read_model_recipe(model).config
    grid, tower, decoder = config.grid, config.tower, config.decoder
    return Sizes(
        name=config.name,
        patches=grid.patches,
        columns=grid.columns,
        pool=grid.pool,
        width=tower.width,
        heads=tower.heads,
        mlp_width=tower.mlp_width,
        blocks=tower.blocks,
        first_packed=tower.first_packed_block,
        scorer=config.scorer.kind,
        decoder_heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
    )


def files_of(folder: Path, pattern: str = "*") -> dict[str, Path]:
    """Return the files below a folder by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob(pattern)) if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
