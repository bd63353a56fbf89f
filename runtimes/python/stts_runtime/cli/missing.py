"""What to say where a command needs a package that is not there: which one, and the line that installs it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator


_DISTRIBUTIONS = {"PIL": "pillow", "cuda": "cuda-bindings"}
"""Module -> the distribution that brings it, where the name differs by more than its dashes."""


def missing_package(error: ImportError, distribution: str) -> str | None:
    """Return a message for an import that failed; None where the module is one of our own, which is a bug.

    Args:
        error: what the import raised.
        distribution: whose command it was: `stts-runtime` or `stts-export`.
    """
    module = (error.name or "").partition(".")[0]
    if module in ("stts_runtime", "stts_export"):
        return None
    where = f"for this Python ({sys.executable})"
    if isinstance(error, importlib.metadata.PackageNotFoundError) and module == distribution:
        return f"{distribution} is not installed {where}, its code only lies on the path: pip install the checkout"
    if not isinstance(error, ModuleNotFoundError):
        return f"{module or 'a package'} cannot be loaded {where}: {error}\n`pip check` says which packages do not fit"
    package = _DISTRIBUTIONS.get(module, module)
    for wanted, extra in _requirements(distribution):
        if _normal(re.split(r"[^\w.-]", wanted)[0]) == _normal(package):
            install = wanted if extra is None else f"{distribution}[{extra}]"
            return f"{package} is not installed {where}, and this needs it: pip install '{install}'"
    return f"{package} is not installed {where}, and this needs it: `pip check` says which packages lack others"


def _requirements(distribution: str) -> Iterator[tuple[str, str | None]]:
    """Yield what a distribution requires, as its metadata words it, and the extra that it is of."""
    try:
        wanted = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in wanted:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"""extra\s*==\s*["']([\w.-]+)["']""", marker)
        if extra is None or extra[1] != "dev":
            yield requirement.strip(), extra[1] if extra else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
