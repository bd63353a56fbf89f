"""The library of our TensorRT plugins: where a bundle carries it, where a build takes it from, whether it loads here.

A bundle whose `engine.ops` is `plugin` carries `plugins/<machine>/libstts_trt.so` for one machine or several, and a
page beside each that says what is in it, listed with their digests like all its files. It is native code, and runs with
its user's rights as TensorRT's engines do.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.elf import read_elf
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plugin_page import read_page
from stts_runtime.bundle.target import Target
from stts_runtime.bundle.versions import numbers
from stts_runtime.errors import BundleError, EngineError


LIBRARY = "libstts_trt.so"
CONTRACT = 2
"""Version of what graphs and plugins agree on: names, inputs, attributes, meaning. A plugin of another refuses them."""
VARIABLE = "STTS_TRT_LIBRARY"
HOW_TO_GET = (
    "`make plugins` builds it in a checkout of the project, the runtime's wheel brings it where `make runtime-wheel` "
    f"made that, or {VARIABLE} names its file or a folder with it"
)

_FOLDER = "plugins"
_PACKAGE = Path(__file__).parents[1]
WITH_THE_PACKAGE = _PACKAGE / "_libraries"
"""Where a wheel may bring native libraries, a folder for each machine."""
IN_A_CHECKOUT = _PACKAGE.parents[2] / "build" / _FOLDER
"""Where `make plugins` leaves them, likewise."""


def file_for(machine: str) -> str:
    """Return where a bundle carries the library for a machine, relative to it; its page lies beside it."""
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
        EngineError: the environment names what is not there, or a library is of another contract than ours.
        BundleError: a file of the name is no library.
    """
    if named := os.environ.get(VARIABLE):
        files = list(_files(Path(named)))
        if not files:
            raise EngineError(f"{VARIABLE} is {named!r}, where no {LIBRARY} lies: name the file, or a folder with it")
    else:  # the later outweigh the earlier
        files = [file for place in (IN_A_CHECKOUT, WITH_THE_PACKAGE) for file in _files(place)]
    for file in files:
        if reason := contract_misfit(file):
            raise EngineError(f"{reason}: {HOW_TO_GET}")
    return {read_elf(file).machine: file for file in files}


def library_of(bundle: Bundle) -> Path:
    """Return the library that a bundle carries for this machine; nothing of it is loaded yet.

    Raises:
        EngineError: it cannot be loaded here; see `library_misfit`.
    """
    glibc = glibc_here()
    if reason := library_misfit(bundle, platform.machine(), glibc if glibc is not None else ()):
        raise EngineError(f"{reason}: build the bundle again with the library for it ({HOW_TO_GET}), or --ops portable")
    return bundle.file(file_for(platform.machine()))


def library_misfit(bundle: Bundle, machine: str, glibc: tuple[int, ...] | None) -> str:
    """Return why a machine cannot load the library that a bundle carries for it; empty if it can.

    Args:
        bundle: whose files are compared with the manifest's digests.
        machine: as `platform.machine()` says it.
        glibc: version of its C library; empty where it has another, None where that is not known.
    """
    listed = {entry.path: entry for entry in bundle.manifest.files}
    entry = listed.get(file_for(machine))
    if entry is None:
        carried = ", ".join(machines_of(bundle.manifest)) or "none"
        return f"{bundle.path} carries its plugins for {carried}, and this machine is {machine}"
    file = bundle.file(entry.path)
    try:
        if sha256_of_file(file) != entry.sha256:
            return f"{file} is not the file that was written into this bundle"
        said = read_elf(file)
    except (OSError, BundleError) as error:
        return f"{file} cannot be read: {error}"
    if said.machine != machine:
        return f"{file} is for {said.machine}, and this machine is {machine}"
    if glibc is not None and glibc < said.glibc:
        return f"{file} needs glibc {_text(said.glibc)} or newer, and this system has {_text(glibc) or 'none'}"
    return contract_misfit(file)


def contract_misfit(library: Path) -> str:
    """Return what is wrong with the contract that a library's page names, empty if nothing is or there is no page."""
    page = read_page(library)
    if page is None or page.contract == CONTRACT:
        return ""
    return f"{library} implements contract {page.contract} of the plugins, and this version's graphs are of {CONTRACT}"


def glibc_here() -> tuple[int, ...] | None:
    """Return the version of this system's C library; None where it is another than GNU's."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):  # no such question on other systems
        return None
    return numbers(version) if name == "glibc" else None


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from sorted(place.rglob(LIBRARY))
