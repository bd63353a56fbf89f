"""Open a bundle: read its manifest, and find out that it is damaged, unsafe or too new before a graph is loaded.

The manifest is stored in one canonical form with a digest of itself, and lists size and SHA-256 of every other file, so
that a change of any byte of the bundle can be found. `stts_export.bundle` writes with the functions of this module.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from stts_runtime.bundle.check import check_manifest
from stts_runtime.bundle.digest import read_document, sealed, sha256_of_file, unsealed
from stts_runtime.bundle.engine_set import ENGINES, check_engine_files, engine_folders, read_engine_set
from stts_runtime.bundle.manifest import OLDEST_SCHEMA, SCHEMA_VERSION, FileEntry, Manifest
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import BundleError, UsageError
from stts_runtime.hub.cache import blob_name
from stts_runtime.progress import OnProgress, no_progress


SUFFIX = ".stts"
MANIFEST = "manifest.json"
BUILD_LOCK = ".building.lock"
"""Lies in a bundle's directory while it is written, and holds the writer's process id."""

_NAMED_FILES = 5


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its directory, absolute and with no link on the way to it.
        manifest: what `manifest.json` says.
        digest: SHA-256 of that file as it was read, see `check_unchanged`; empty where it was not.
    """

    path: Path
    manifest: Manifest
    digest: str = ""

    def file(self, name: str) -> Path:
        """Return where the listed file `name` lies."""
        return self.path / name

    def tokenizer(self) -> Path:
        """Return where the tokenizer lies.

        Raises:
            UsageError: the bundle was built without one.
        """
        if self.manifest.tokenizer is None:
            raise UsageError(
                f"{self.path.name} was built from random weights and has no tokenizer, so it can be timed but not "
                "asked; build it from a checkpoint"
            )
        return self.file(self.manifest.tokenizer)


def open_bundle(path: str | Path, check: bool = False, on_progress: OnProgress = no_progress) -> Bundle:
    """Return the bundle in the directory `path` after checking that all its files are there, whole and inside it.

    Without `check`, sizes are compared and no file but the manifest is read (milliseconds). With `check`, every byte is
    read and compared with its digest, and files that the manifest does not list are refused. Engines that were built
    since (`stts_runtime.bundle.engine_set`) are not the manifest's; each set is compared with its own index.

    Files may be links into the same bundle, or, as a model hub's cache leaves them, to the blobs of the repository with
    a snapshot that holds the bundle: then each blob must have the file's digest, by its name or by what it holds.

    Args:
        path: the directory `NAME.stts`.
        check: whether to read every file.
        on_progress: told how far the reading is.

    Raises:
        BundleError: no bundle there, half-written, damaged, unsafe, or written for a newer runtime.
        UsageError: `path` is no path.
    """
    if not isinstance(path, str | Path):
        raise UsageError(f"the bundle's path is a {type(path).__name__}, wanted text or a Path")
    root = Path(path)
    try:
        _check_is_bundle(root)
        root = root.resolve()
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"no bundle at {str(path)[:200]!r}: it cannot be looked at: {reason}") from error
    _check_inside(root, MANIFEST)
    content = _document(root / MANIFEST)
    manifest = _manifest_from(content, root / MANIFEST)
    check_manifest(manifest, str(root / MANIFEST))
    _check_references(root, manifest)
    _check_sizes(root, manifest.files)
    if not check:
        _check_blobs(root, manifest.files)
    else:
        _check_contents(root, manifest.files, on_progress)
        _check_nothing_else(root, manifest.files)
        for folder in engine_folders(root):
            check_engine_files(folder, read_engine_set(folder))
    return Bundle(root, manifest, hashlib.sha256(content).hexdigest())


def check_unchanged(bundle: Bundle) -> None:
    """Raise BundleError if another bundle came in the place of an opened one: parts of two may not be mixed."""
    try:
        content = read_document(bundle.path / MANIFEST)
    except OSError:
        content = b""
    if bundle.digest and hashlib.sha256(content).hexdigest() != bundle.digest:
        raise BundleError(
            f"{bundle.path}: was replaced or removed since it was loaded, and parts of two bundles may not be mixed: "
            "load it again"
        )


def staging_path(destination: Path) -> Path:
    """Return the directory, next to `destination`, in which a bundle is written before it is whole."""
    return destination.with_name(f".{destination.name}.building")


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return what `manifest.json` holds: JSON in canonical form, with the digest of all the rest as one more entry."""
    return sealed(to_plain(manifest))


def read_manifest(file: Path) -> Manifest:
    """Return the manifest in `file`.

    Raises:
        BundleError: unreadable, a byte of it has changed, a newer schema, or entries that do not fit the schema.
    """
    return _manifest_from(_document(file), file)


def _document(file: Path) -> bytes:
    try:
        return read_document(file)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error


def _manifest_from(content: bytes, file: Path) -> Manifest:
    damaged = f"{file}: damaged: its bytes do not match its digest. Copy or build the bundle again."
    try:
        data, unchanged = unsealed(content)
    except ValueError as error:
        raise BundleError(damaged) from error
    _check_schema(file, data.get("schema_version"), unchanged)
    if not unchanged:
        raise BundleError(damaged)
    return from_plain(Manifest, data, str(file))


def files_below(root: Path) -> list[str]:
    """Return the files under `root` in sorted order, relative and with forward slashes; links are named, not followed.

    The manifest at the root, a writer's lock and built engines are left out: no manifest lists itself, and engines have
    an index of their own.
    """
    found = []
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in [*names, *links]]
    return sorted(name for name in set(found) - {MANIFEST, BUILD_LOCK} if not _is_of_engines(root, name))


def _check_schema(file: Path, version: object, unchanged: bool) -> None:
    """Raise if `version` is not ours, before any entry is interpreted: a newer schema may mean anything by them."""
    if type(version) is int and version > SCHEMA_VERSION:
        doubt = "" if unchanged else " (or damaged: the file does not match its digest)"
        raise BundleError(
            f"{file}: written by a newer stts-export (schema {version}; this runtime reads {SCHEMA_VERSION})"
            f"{doubt}: upgrade stts-runtime"
        )
    if unchanged and (type(version) is not int or version < OLDEST_SCHEMA):
        raise BundleError(
            f"{file}: written by an older stts-export (schema {version!r}; this runtime reads {OLDEST_SCHEMA} to "
            f"{SCHEMA_VERSION}): build the bundle again"
        )


def _check_is_bundle(root: Path) -> None:
    if not root.is_dir():
        if root.exists():
            raise BundleError(f"{root} is a file; a bundle is a directory, NAME.stts: pass that")
        building = staging_path(root.absolute())
        if building.exists():
            raise BundleError(f"no bundle at {root}: a build of it is running or was killed; wait, or build again")
        whole = root if root.suffix == SUFFIX else root.with_name(f"{root.name}{SUFFIX}")
        if whole.is_dir():
            raise BundleError(f"no bundle at {root}: nothing is there. Did you mean {whole}?")
        wanted = shlex.quote(str(whole))
        raise BundleError(
            f"no bundle at {root}: nothing is there. `stts-export build --model MODEL -o {wanted}` writes one"
        )
    if not os.path.lexists(root / MANIFEST):
        if (root / BUILD_LOCK).exists():
            raise BundleError(f"{root} is half-written: its build is running or was killed; wait, or build again")
        if (root / "config.json").is_file():
            raise BundleError(
                f"{root} is a checkpoint, and no bundle: make one of it with `stts-export build --model {root} -o "
                "NAME.stts`"
            )
        raise BundleError(f"{root} is not a bundle: it has no {MANIFEST}. Pass the NAME.stts directory itself")


def _check_references(root: Path, manifest: Manifest) -> None:
    """Raise unless all paths stay inside the bundle, none is listed twice, and all files that are used are listed."""
    listed = [entry.path for entry in manifest.files]
    for name in listed:
        _check_inside(root, name)
    if len(set(listed)) < len(listed) or {MANIFEST, BUILD_LOCK} & set(listed):
        raise BundleError(f"{root / MANIFEST}: files: a path is listed twice, or one that cannot be")
    used = {f"graphs.{name}.file": graph.file for name, graph in manifest.graphs.items()}
    if manifest.tokenizer is not None:
        used["tokenizer"] = manifest.tokenizer
    for key, name in used.items():
        if name not in listed:
            raise BundleError(f"{root / MANIFEST}: {key}: {name!r} is not among the bundle's files")


def _check_inside(root: Path, name: str) -> None:
    """Raise if `name` does not lie in the bundle: absolute, climbing, of another system's kind, or through a link.

    Links to a hub's blobs are let through here; `_check_blobs` holds them to the manifest.
    """
    plain = name and not re.search(r"[\\:\x00]", name) and all(part not in ("", ".", "..") for part in name.split("/"))
    if plain and (not _leads_out(root, name) or blob_name(root, root / name) is not None):
        return
    advice = (
        f"if you trust what it leads to, copy the bundle with its links followed: cp -rL {root} COPY.stts"
        if plain
        else "get the bundle from a source you trust"
    )
    raise BundleError(f"{root}: unsafe: its file {name!r} lies outside the bundle. Nothing was loaded; {advice}")


def _leads_out(root: Path, name: str) -> bool:
    return not (root / name).resolve().is_relative_to(root)


def _check_blobs(root: Path, files: tuple[FileEntry, ...]) -> None:
    """Raise unless each file that is a link out of the bundle leads to what the manifest lists.

    A hub names large files by their SHA-256, and the name will do, as the size does for a file of the bundle's own.
    """
    wrong = [
        entry.path
        for entry in files
        if _leads_out(root, entry.path)
        and blob_name(root, root / entry.path) != entry.sha256
        and sha256_of_file(root / entry.path) != entry.sha256
    ]
    _refuse_files(root, "damaged", wrong, "Download or build the bundle again.")


def _check_sizes(root: Path, files: tuple[FileEntry, ...]) -> None:
    wrong = []
    for entry in files:
        try:
            status = (root / entry.path).stat()
        except OSError as error:
            wrong.append(f"{entry.path} ({error.strerror})")
            continue
        if not stat.S_ISREG(status.st_mode):
            wrong.append(f"{entry.path} (not a file)")
        elif status.st_size != entry.size:
            wrong.append(f"{entry.path} (wanted {entry.size} bytes, got {status.st_size})")
    _refuse_files(root, "incomplete", wrong, "Copy or build the bundle again.")


def _check_contents(root: Path, files: tuple[FileEntry, ...], on_progress: OnProgress) -> None:
    total = sum(entry.size for entry in files)
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress("check", done / max(1, total))

    wrong = []
    for entry in files:
        try:
            if sha256_of_file(root / entry.path, count) != entry.sha256:
                wrong.append(entry.path)
        except OSError as error:
            wrong.append(f"{entry.path} ({error.strerror})")
    _refuse_files(root, "damaged", wrong, "Copy or build the bundle again.")


def _check_nothing_else(root: Path, files: tuple[FileEntry, ...]) -> None:
    listed = {entry.path for entry in files}
    wrong = [name for name in files_below(root) if name not in listed]
    _refuse_files(root, "not listed in its manifest", wrong, "Remove them, or copy or build the bundle again.")


def _is_of_engines(root: Path, name: str) -> bool:
    """Tell whether a file belongs to a set of engines, or to a build of one that runs or was interrupted."""
    first, _, rest = name.partition("/")
    folder, inside, _ = rest.partition("/")
    return first == ENGINES and not (root / ENGINES).is_symlink() and (bool(inside) or folder.startswith("."))


def _refuse_files(root: Path, what: str, names: list[str], advice: str) -> None:
    if names:
        more = f" and {len(names) - _NAMED_FILES} more" if len(names) > _NAMED_FILES else ""
        shown = ", ".join(names[:_NAMED_FILES]) + more
        raise BundleError(f"{root}: {len(names)} file{'s' * (len(names) > 1)} {what}: {shown}. {advice}")
