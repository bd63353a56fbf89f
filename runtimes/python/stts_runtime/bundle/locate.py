"""Where a bundle lies that a person names: a folder, or a repository on a hub, fetched into the hub's cache."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from stts_runtime.bundle.open import MANIFEST, read_manifest
from stts_runtime.errors import BundleError, UsageError
from stts_runtime.hub.cache import snapshot_of
from stts_runtime.hub.fetch import Repository, fetched, repository
from stts_runtime.hub.name import HubName, named_on_hub
from stts_runtime.progress import Log, OnProgress, no_log, no_progress


CONFIG = "config.json"
WEIGHTS = ".safetensors"


def locate_bundle(place: str | Path, on_progress: OnProgress = no_progress, log: Log = no_log) -> Path:
    """Return the folder of the bundle that is named, fetching what a hub has of it.

    Args:
        place: a folder's path, or `ORG/NAME[@REVISION]`, which is text, and of no path that exists.
        on_progress: told how much is fetched.
        log: told where the hub was not asked.

    Raises:
        HubError: the hub cannot be reached, or has no such repository.
        BundleError: it holds no bundle.
        UsageError: it can be neither a path nor a name, or the hub's library is not installed.
    """
    if not isinstance(place, str) or (name := named_on_hub(place)) is None:
        return Path(os.path.expanduser(place)) if isinstance(place, str) else place  # noqa: PTH111
    return fetch_bundle(repository(name, log), on_progress)


def fetch_bundle(found: Repository, on_progress: OnProgress = no_progress) -> Path:
    """Return the folder of a hub's cache that holds a repository's bundle: the manifest, and the files that it lists.

    What else lies in the repository is left there: its card, and whatever nobody vouches for.

    Raises:
        BundleError: it holds none, or its manifest is damaged.
        HubError: see `fetched`.
    """
    if MANIFEST not in found.sizes:
        raise BundleError(f"{found.name} holds no bundle: it has no {MANIFEST}{_instead(found)}")
    folder = fetched(found, [MANIFEST])
    names = [entry.path for entry in read_manifest(folder / MANIFEST).files]
    return fetched(found, [MANIFEST, *names], on_progress=on_progress)


def own_folder(place: str | Path) -> Path:
    """Return the folder of a bundle that is to be written into.

    Raises:
        UsageError: it is on a hub, or in a hub's cache, which is not ours to write into; says how to get a copy.
    """
    name = named_on_hub(place) if isinstance(place, str) else None
    path = Path(place)
    name = name or snapshot_of(path.resolve())
    if name is not None:
        raise UsageError(
            f"{place} lies on a hub, and nothing is built into its cache, which others use: {_pull_and_build(name)}"
        )
    return path


def build_command(path: Path) -> str:
    """Return what makes engines for the bundle at `path`, for a message; one in a hub's cache is copied first."""
    name = snapshot_of(path)
    return f"`stts-runtime build {shlex.quote(str(path))}`" if name is None else _pull_and_build(name)


def bundle_title(place: str | Path) -> str:
    """Return what a bundle is called by: its repository's name on a hub, else its folder's without `.stts`."""
    name = named_on_hub(place) if isinstance(place, str) else None
    path = Path(place).resolve()
    name = name or snapshot_of(path)
    return path.name.removesuffix(".stts") if name is None else name.repository


def _pull_and_build(name: HubName) -> str:
    copy = f"{name.repository.partition('/')[2]}.stts"
    return f"`stts-runtime pull {name} -o {copy}`, then `stts-runtime build {copy}`"


def _instead(found: Repository) -> str:
    weights = [file for file in found.top if file.endswith(WEIGHTS)]
    if CONFIG in found.sizes and weights:
        return (
            f", but a checkpoint ({CONFIG}, {weights[0]}): make a bundle of it with "
            f"`stts-export build --model {found.name} -o NAME.stts`"
        )
    below = sorted(file.partition("/")[0] for file in found.sizes if file.endswith(f"/{MANIFEST}"))
    return f" of its own, but a folder {below[0]} with one; a bundle's files lie at the top" if below else ""
