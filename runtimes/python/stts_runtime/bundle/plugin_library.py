"""The library of our TensorRT plugins: where a bundle carries it, where a build takes it from, whether it loads here.

A bundle whose `engine.ops` is `plugin` carries `plugins/<machine>/libstts_trt.so` for one machine or several, listed
with their digests like all its files. It is native code, and runs with its user's rights as TensorRT's engines do.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.elf import ElfFile, read_elf
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.target import Target
from stts_runtime.bundle.versions import numbers
from stts_runtime.errors import EngineError


LIBRARY = "libstts_trt.so"
CONTRACT = 1
"""Version of what graphs and plugins agree on: names, inputs, attributes, meaning. A plugin of another refuses them."""
VARIABLE = "STTS_TRT_LIBRARY"
HOW_TO_GET = (
    f"`make plugins` builds it in a checkout of the project, or {VARIABLE} names a file or a folder that holds it"
)

_FOLDER = "plugins"
_PACKAGE = Path(__file__).parents[1]
_WITH_THE_PACKAGE = _PACKAGE / "_libraries"  # a wheel may bring them
_IN_A_CHECKOUT = _PACKAGE.parents[2] / "build" / _FOLDER


def file_for(machine: str) -> str:
    """Return where a bundle carries the library for a machine, relative to it."""
    return f"{_FOLDER}/{machine}/{LIBRARY}"


def machines_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the machines that a bundle carries the library for, sorted; none where its graphs have no plugins."""
    names = [entry.path.split("/") for entry in manifest.files]
    return tuple(sorted(name[1] for name in names if len(name) == 3 and (name[0], name[2]) == (_FOLDER, LIBRARY)))


def machine_of(target: Target) -> str:
    """Return the machine that a target's programs are for: Jetsons are ARM, and cards are mostly in others."""
    return "aarch64" if target.jetpacks else "x86_64"


def found_libraries() -> dict[str, Path]:
    """Return the libraries that a build on this host can take, by machine.

    Where the environment names some (`STTS_TRT_LIBRARY`), those and no others; else those that came with this package,
    and for other machines those that `make plugins` left in its checkout.

    Raises:
        EngineError: the environment names what is not there, or holds no library.
        BundleError: a file of the name is no library.
    """
    if named := os.environ.get(VARIABLE):
        found = {read_elf(file).machine: file for file in _files(Path(named))}
        if not found:
            raise EngineError(f"{VARIABLE} is {named!r}, where no {LIBRARY} lies: name the file, or a folder with it")
        return found
    places = (_IN_A_CHECKOUT, _WITH_THE_PACKAGE)  # the later outweigh the earlier
    return {read_elf(file).machine: file for place in places for file in _files(place)}


def library_of(bundle: Bundle) -> Path:
    """Return the library that a bundle carries for this machine, after comparing it with the manifest's digest.

    Raises:
        EngineError: there is none for this machine, it has changed, or it cannot be loaded here.
    """
    machine = platform.machine()
    listed = {entry.path: entry for entry in bundle.manifest.files}
    entry = listed.get(file_for(machine))
    if entry is None:
        carried = ", ".join(machines_of(bundle.manifest)) or "none"
        raise EngineError(
            f"{bundle.path} carries its plugins for {carried}, and this machine is {machine}: build it again where "
            f"there is a {LIBRARY} for {machine} ({HOW_TO_GET}), or with --ops portable"
        )
    file = bundle.file(entry.path)
    if sha256_of_file(file) != entry.sha256:
        raise EngineError(f"{file}: not the file that was written into this bundle: copy or build the bundle again")
    check_loadable(file, read_elf(file))
    return file


def check_loadable(file: Path, said: ElfFile) -> None:
    """Raise EngineError unless this machine can load a library that says this of itself; nothing is loaded."""
    if said.machine != platform.machine():
        raise EngineError(f"{file} is for {said.machine}, and this machine is {platform.machine()}: {HOW_TO_GET}")
    here = glibc_here()
    if said.glibc and (here is None or here < said.glibc):
        wanted, got = ".".join(map(str, said.glibc)), "none" if here is None else ".".join(map(str, here))
        raise EngineError(
            f"{file} needs glibc {wanted} or newer, and this system has {got}: update the system, build the library "
            "on one like it (`make plugins`), or build the bundle with --ops portable"
        )


def glibc_here() -> tuple[int, ...] | None:
    """Return the version of this system's C library; None where it is another than GNU's."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):  # no such question on other systems
        return None
    return numbers(version) if name == "glibc" else None


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from sorted(place.rglob(LIBRARY))
