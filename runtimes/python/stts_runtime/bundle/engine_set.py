"""Engines that were built for a bundle: which there are, and whether they are whole.

A set lies in `engines/<backend>-<version>-sm<a>[+<b>...]/`: an engine for every part, and `engines.json`, which lists
them in the manner of the manifest. The manifest does not, since engines are built later and elsewhere. Folders that
begin with a dot are a build's own (`stts_runtime.build`). A set of weights packed for a CPU has no SMs, and its version
names the CPU too (`stts_runtime.engine.packed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from stts_runtime.bundle.digest import digest_of, read_document, sealed, sha256_of_file, unsealed
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import BundleError


ENGINES = "engines"
"""Folder of the bundle with all sets."""

INDEX = "engines.json"
ENGINE_SET_SCHEMA = 1
_WEIGHTS = "weights/"


@dataclass(frozen=True)
class EngineFile:
    """One part's engine."""

    part: str
    file: str  # its name in the set's folder
    size: int  # in bytes
    sha256: str  # in hex
    seconds: float = 0.0
    # what a context wants beside weights, inputs and outputs; None where TensorRT did not say
    activation_bytes: int | None = None
    peak_memory_bytes: int | None = None  # most memory of the building process; None where the kernel does not tell


@dataclass(frozen=True)
class EngineSet:
    """The engines of one build."""

    schema_version: int
    backend: str  # `tensorrt`, `tensorrt_rtx`, or `onnxruntime` for packed weights
    version: str  # of the backend, all of it: engines are tied to it
    compute_capabilities: tuple[int, ...]  # SMs that each engine serves, in rising order
    precision: str  # of the bundle: `float32`, `float16` or `bfloat16`
    manifest_digest: str  # of what they were built from, see `manifest_digest`
    files: tuple[EngineFile, ...]  # in the manifest's order of parts, which is by name once it was written

    @property
    def folder(self) -> str:
        """Name of the folder in `engines/`."""
        sms = f"-sm{'+'.join(map(str, self.compute_capabilities))}" if self.compute_capabilities else ""
        return f"{self.backend}-{self.version}{sms}"

    def file_of(self, part: str) -> EngineFile:
        """Return the engine of `part`; KeyError if the set has none."""
        return {file.part: file for file in self.files}[part]


def manifest_digest(manifest: Manifest) -> str:
    """Return the digest of all that engines are built from: graphs, their specs and weights, and the engine settings.

    Whatever else a manifest lists (tokenizer, verification) may change and leaves engines as they are.
    """
    graphs = {entry.file for entry in manifest.graphs.values()}
    files = [entry for entry in manifest.files if entry.path in graphs or entry.path.startswith(_WEIGHTS)]
    files.sort(key=lambda entry: entry.path)
    # settings that came later have defaults, and were unknown when the first engines were built: those stay theirs
    known = [field for field in fields(manifest.engine) if getattr(manifest.engine, field.name) != field.default]
    settings = {field.name: getattr(manifest.engine, field.name) for field in known}
    return digest_of(to_plain({"graphs": manifest.graphs, "engine": settings, "files": files}))


def is_built_from(path: str, manifest: Manifest) -> bool:
    """Return whether the bundle's file `path` is among those that `manifest_digest` covers."""
    return path.startswith(_WEIGHTS) or path in {entry.file for entry in manifest.graphs.values()}


def index_bytes(engines: EngineSet) -> bytes:
    """Return what `engines.json` holds."""
    return sealed(to_plain(engines))


def read_engine_sets(bundle_path: str | Path) -> tuple[EngineSet, ...]:
    """Return all sets of a bundle, by folder name; empty if none is built.

    Raises:
        BundleError: an index is damaged, or of a newer runtime.
    """
    return tuple(read_engine_set(folder) for folder in engine_folders(Path(bundle_path)))


def engine_folders(bundle_path: Path) -> list[Path]:
    """Return the folders of whole sets, sorted."""
    root = bundle_path / ENGINES
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_engine_set(folder: Path) -> EngineSet:
    """Return the set in `folder`; its files are not looked at.

    Raises:
        BundleError: no index, a damaged one, or one that says what cannot be.
    """
    file = folder / INDEX
    repair = f"remove {folder} and run `stts-runtime build`"
    try:
        content = read_document(file)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}): {repair}") from error
    try:
        data, unchanged = unsealed(content)
    except ValueError as error:
        raise BundleError(f"{file}: damaged: {repair}") from error
    version = data.get("schema_version")
    if type(version) is int and version > ENGINE_SET_SCHEMA:
        raise BundleError(f"{file}: written by a newer stts-runtime: upgrade this one, or {repair}")
    if not unchanged:
        raise BundleError(f"{file}: damaged: its bytes do not match its digest: {repair}")
    engines = from_plain(EngineSet, data, str(file))
    names = [entry.file for entry in engines.files]
    # a staging folder has a longer name; a name with a slash would lead out of the folder
    if not folder.name.endswith(engines.folder) or not all(re.fullmatch(r"[\w.+-]+\.engine", name) for name in names):
        raise BundleError(f"{file}: does not belong here (it is for {engines.folder}): {repair}")
    return engines


def check_engine_files(folder: Path, engines: EngineSet, progress: Callable[[int], None] | None = None) -> None:
    """Raise unless every file of a set is whole and nothing else is there; reads every byte.

    Raises:
        BundleError: a file is missing, changed, or not listed.
    """
    damaged = [entry.file for entry in engines.files if not is_whole(folder / entry.file, entry, progress)]
    wrong = [f"{name} (missing or damaged)" for name in damaged]
    listed = {INDEX, *(entry.file for entry in engines.files)}
    wrong += [f"{path.name} (not listed)" for path in sorted(folder.iterdir()) if path.name not in listed]
    if wrong:
        raise BundleError(f"{folder}: {', '.join(wrong)}: remove the folder and run `stts-runtime build`")


def is_whole(path: Path, entry: EngineFile, progress: Callable[[int], None] | None = None) -> bool:
    """Return whether `path` is a file with size and digest of `entry`."""
    try:
        return (
            path.is_file()
            and not path.is_symlink()
            and path.stat().st_size == entry.size
            and sha256_of_file(path, progress) == entry.sha256
        )
    except OSError:
        return False


def sm_text(compute_capabilities: Sequence[int]) -> str:
    """Return SMs for a message: `SM 86, 120`."""
    return "SM " + ", ".join(map(str, compute_capabilities))
