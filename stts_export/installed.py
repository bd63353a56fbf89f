"""Which of the packages that this distribution's metadata names are installed, and what to do where one is not.

Nothing is imported to find out: torch takes seconds, and a package that is broken may crash.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from functools import cache

from packaging.requirements import Requirement
from packaging.version import Version

from stts_export.errors import PackageError


NAME = "stts-export"
RUNTIME = "stts-runtime"


@cache
def requirements(extra: str | None = None) -> tuple[Requirement, ...]:
    """Return what `extra` brings, or what is always needed; other extras that it names are taken apart.

    So are those of the runtime, which belongs to it: that it is here does not say which of its extras are.

    Raises:
        PackageError: this code is not installed, it only lies on Python's path.
    """
    return tuple(dict.fromkeys(_taken_apart(_metadata(), extra)))


def extras() -> tuple[str, ...]:
    """Return the names of the extras for users, sorted."""
    names = importlib.metadata.metadata(NAME).get_all("Provides-Extra") or []
    return tuple(sorted(name for name in names if name != "dev"))


def misfits(wanted: tuple[Requirement, ...]) -> tuple[tuple[Requirement, str | None], ...]:
    """Return those that are missing (None), or there in a version that is not wanted."""
    found = []
    for one in wanted:
        version = version_of(one.name)
        if version is None or not one.specifier.contains(Version(version).public, prereleases=True):
            found.append((one, version))
    return tuple(found)


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_torch() -> None:
    """Raise PackageError unless the torch that is here is the one whose exporter was tested."""
    (wanted,) = (one for one in requirements() if one.name == "torch")
    for one, version in misfits((wanted,)):
        raise PackageError(
            f"torch {version or 'is not installed'}{' is installed' * bool(version)}, wanted {one.specifier}, whose "
            f"exporter the graphs were tested with: pip install '{one}'"
        )


def check_extra(module: str, extra: str, purpose: str, otherwise: str = "") -> None:
    """Raise PackageError where a module that an extra brings is missing.

    Args:
        module: what will be imported.
        extra: which extra brings it.
        purpose: what needs it, in the plural, for the message: `pictures`.
        otherwise: how to do without, for the end of the message.
    """
    if importlib.util.find_spec(module) is None:
        raise PackageError(f"{purpose} need {module}, which is not installed: pip install '{NAME}[{extra}]'{otherwise}")


def _taken_apart(metadata: list[str], extra: str | None) -> Iterator[Requirement]:
    for text in metadata:
        one = Requirement(text)
        if not (one.marker is None if extra is None else _is_of(one, extra)):
            continue
        one.marker = None  # it applies, and pip is told no extra's name
        if one.name != NAME:
            yield one
        if one.name in (NAME, RUNTIME) and one.extras:
            inside = _metadata() if one.name == NAME else _of_runtime()
            for inner in sorted(one.extras):
                yield from _taken_apart(inside, inner)


def _of_runtime() -> list[str]:
    """Return the runtime's requirements; none where it is missing, which its own requirement tells."""
    try:
        return importlib.metadata.requires(RUNTIME) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _metadata() -> list[str]:
    try:
        return importlib.metadata.requires(NAME) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise PackageError(
            f"{NAME} is not installed, its code only lies on Python's path: pip install -e CHECKOUT, or a wheel of it"
        ) from error


def _is_of(one: Requirement, extra: str) -> bool:
    return one.marker is not None and one.marker.evaluate({"extra": extra})
