"""Files of a repository, by the hub's own library: into its cache, or out of it where the hub cannot be asked.

Where the hub is (HF_ENDPOINT), where its cache (HF_HOME, HF_HUB_CACHE), who asks (HF_TOKEN, `hf auth login`) and
whether the network may be used (HF_HUB_OFFLINE) is the library's to know.
"""

from __future__ import annotations

import errno
import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stts_runtime.errors import HubError, SttsError, UsageError
from stts_runtime.hub.bars import bars
from stts_runtime.hub.name import HubName
from stts_runtime.hub.refused import refusal, unreachable
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.sizes import size_text


STAGE = "fetch"
_SUBFOLDERS = "*/*"
# What an OSError's number says of a cache that cannot be written to, whatever the network does.
_OF_THE_CACHE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_MANY = 3  # names of files in a message


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    name: HubName  # as it was asked for
    commit: str  # what that stands for now, or stood for when it was fetched
    sizes: dict[str, int]  # its files, relative, and their bytes; of a cached one those that are there
    license: str | None = None  # as its card says it; None where it says nothing, or the hub was not asked
    is_cached: bool = False  # whether the hub was not asked

    @property
    def top(self) -> list[str]:
        """Its files that lie in no folder."""
        return [file for file in self.sizes if "/" not in file]


def library() -> Any:
    """Return the hub's own library.

    Raises:
        UsageError: it is not installed; says how to.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UsageError(
            f"what is named ORG/NAME is fetched from a hub, and that needs {error.name}: "
            "pip install 'stts-runtime[hub]'. A folder is named by its path, such as ./FOLDER"
        ) from None
    return huggingface_hub


def repository(name: HubName, log: Log = no_log) -> Repository:
    """Return what a hub's name stands for; nothing is fetched yet.

    Args:
        name: of the repository, and its revision.
        log: told where the hub was not asked and the cache's last state is taken.

    Raises:
        UsageError: the hub's library is not installed.
        HubError: there is no such repository or revision, or none for this user; or the hub cannot be reached, and
            nothing of it is in the cache.
    """
    hub = library()
    if hub.constants.HF_HUB_OFFLINE:
        return _cached(hub, name, "HF_HUB_OFFLINE is set, so nothing is asked or fetched", log)
    try:
        info = hub.HfApi().model_info(name.repository, revision=name.revision, files_metadata=True)
    except Exception as error:  # those of its HTTP library too, which differs between its versions
        if (reason := unreachable(hub, error)) is None:
            raise refusal(hub, name, error) from error
        return _cached(hub, name, reason, log)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    said = None if info.card_data is None else info.card_data.get("license")
    return Repository(name, str(info.sha), sizes, said if isinstance(said, str) else None)


def fetched(
    found: Repository, names: Sequence[str] = (), patterns: Sequence[str] = (), on_progress: OnProgress = no_progress
) -> Path:
    """Return the folder of the cache in which those files of a repository lie, fetching those that are not there.

    Args:
        found: from `repository`.
        names: of files that must be there, as `weights/decoder.bin`.
        patterns: of more files, as `*.json`, which are not looked for in folders.
        on_progress: told the share of all bytes that is there.

    Raises:
        HubError: a file is missing, on the hub or in the cache where the hub is not asked; the disk is too full; or the
            hub stopped answering. What has come stays in the cache, and the next try goes on from there.
    """
    hub = library()
    _check_there(found, [name for name in names if name not in found.sizes])
    # names are escaped, or a bracket in one would be a pattern
    wanted = [([glob.escape(name) for name in names], None), (list(patterns), _SUBFOLDERS)]
    folders = [_snapshot(hub, found, allowed, ignored, on_progress) for allowed, ignored in wanted if allowed]
    return folders[-1]


def _snapshot(hub: Any, found: Repository, names: list[str], ignored: str | None, on_progress: OnProgress) -> Path:
    from huggingface_hub.utils import filter_repo_objects

    absent = {}
    if not found.is_cached:
        place = Path(hub.constants.HF_HUB_CACHE)
        there = place / f"models--{found.name.repository.replace('/', '--')}" / "snapshots" / found.commit
        wanted = filter_repo_objects(found.sizes, allow_patterns=names, ignore_patterns=ignored)
        absent = {name: found.sizes[name] for name in wanted if not (there / name).is_file()}
        _check_room(found, place, sum(absent.values()))
    try:
        return Path(
            hub.snapshot_download(
                found.name.repository,
                revision=found.commit if found.is_cached else found.name.revision,
                allow_patterns=names,
                ignore_patterns=ignored,
                local_files_only=found.is_cached,
                tqdm_class=bars(lambda share: on_progress(STAGE, share), sum(absent.values())) if absent else bars(),
            )
        )
    except SttsError:
        raise
    except hub.errors.LocalEntryNotFoundError as error:
        if found.is_cached:
            raise _partly(found) from error
        raise _stopped(found, error) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_CACHE:
            raise HubError(
                f"{found.name} cannot be fetched into {hub.constants.HF_HUB_CACHE}: {error.strerror or error}; free "
                "some room there, or set HF_HUB_CACHE to a folder on another disk that you may write to"
            ) from error
        if unreachable(hub, error) is None:
            raise refusal(hub, found.name, error) from error
        raise _stopped(found, error) from error


def _cached(hub: Any, name: HubName, why: str, log: Log) -> Repository:
    """Return what the cache has of a repository, whichever of its files these are."""
    try:
        folder = Path(
            hub.snapshot_download(name.repository, revision=name.revision, allow_patterns=[], local_files_only=True)
        )
    except (hub.errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        raise HubError(
            f"{name} is not in the hub's cache ({hub.constants.HF_HUB_CACHE}), and {why}. Fetch it once where there is "
            f"a network, or give a folder; there is none of the name {name.repository} here"
        ) from error
    log(f"{why}: {name} is taken from the hub's cache, as it was at commit {folder.name}")
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return Repository(name, folder.name, files, is_cached=True)


def _check_there(found: Repository, missing: list[str]) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:_MANY]) + (f" and {len(missing) - _MANY} more" if len(missing) > _MANY else "")
    if found.is_cached:
        raise _partly(found, f": {shown} is missing")
    raise HubError(f"{found.name} lacks {shown} at commit {found.commit}: its owner has to upload the whole")


def _check_room(found: Repository, cache: Path, needed: int) -> None:
    place = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise HubError(
            f"too little disk to fetch {found.name}: {size_text(needed)} are needed, and {size_text(free)} are free in "
            f"{cache}. Nothing was fetched: free some, or set HF_HUB_CACHE to a folder on another disk"
        )


def _partly(found: Repository, missing: str = "") -> HubError:
    return HubError(
        f"only a part of {found.name} (commit {found.commit}) is in the hub's cache, as an interrupted download leaves "
        f"it{missing}. Run this once where there is a network, and without HF_HUB_OFFLINE, to fetch the rest"
    )


def _stopped(found: Repository, error: Exception) -> HubError:
    reason = str(error.__cause__ or error).strip().partition("\n")[0]
    return HubError(
        f"{found.name} could not be fetched whole: the hub stopped answering ({reason}). What has come stays in its "
        "cache: run the same command again, and it goes on from there"
    )
