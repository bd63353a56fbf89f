"""A decoder's rounded weights as onnxruntime's products want them, written once on the device and memory-mapped after.

Products of whole numbers want their matrix in an order that depends on the CPU. Without a copy on disk onnxruntime
makes one in memory each time that it opens the graph; with one it maps the file, and the memory is the page cache's.
What is written is the graph as onnxruntime optimised it, and a file with its weights in both orders. It serves one
version of onnxruntime on one kind of CPU: with any other the graph itself is opened, and a note says so.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from stts_runtime.bundle.backend import ONNXRUNTIME
from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.engine_set import (
    ENGINE_SET_SCHEMA,
    ENGINES,
    EngineFile,
    EngineSet,
    manifest_digest,
    read_engine_sets,
)
from stts_runtime.bundle.engine_staging import Staging, engine_staging
from stts_runtime.bundle.locate import build_command
from stts_runtime.bundle.manifest import FLOAT, Manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.swap import remove
from stts_runtime.engine.whole_products import keep_products_whole
from stts_runtime.errors import BundleError, EngineError
from stts_runtime.sizes import size_text
from stts_runtime.termination import termination_as_exit


PART, WEIGHTS = "decoder", "decoder.weights"
"""What a set holds: the graph, and its weights."""
DISK_FACTOR = 2.5
"""Size on disk by that of the decoder's weights: they are there in both orders, tables that are read twice thrice."""
CPUINFO = Path("/proc/cpuinfo")
_TELLING = ("flags", "features", "vendor_id", "cpu family", "model", "cpu implementer", "cpu part")
"""Of what the kernel says of a core, that which onnxruntime chooses its products by."""


def is_packable(manifest: Manifest) -> bool:
    """Return whether a bundle's decoder has products of whole numbers on a CPU."""
    engine = manifest.engine
    return engine.weights != FLOAT and (engine.backend, engine.device) == (ONNXRUNTIME.name, "cpu")


def packed_version(cpuinfo: Path = CPUINFO) -> str:
    """Return what packed weights are tied to: onnxruntime's version, and the kind of CPU as a digest of what it can do.

    Raises:
        EngineError: onnxruntime is missing, or the system does not say what the CPU can do; only Linux does.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}): {ONNXRUNTIME.install}") from error
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError as error:
        raise EngineError(
            f"weights are packed for one kind of CPU, and this system does not say which it has ({cpuinfo}: "
            f"{error.strerror}): run the bundle as it is"
        ) from error
    pairs = (line.partition(":") for line in lines)
    told = {(key.strip().lower(), value.strip()) for key, _, value in pairs}
    kind = sorted(f"{key}: {value}" for key, value in told if key in _TELLING)
    digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()
    return f"{onnxruntime.__version__}-{platform.machine()}-{digest[:8]}"


def find_packed(bundle: Bundle, cpuinfo: Path = CPUINFO) -> tuple[Path | None, str]:
    """Return the packed decoder that serves here, None without one, and what a user should know where others do not."""
    if not is_packable(bundle.manifest) or not (bundle.path / ENGINES).is_dir():
        return None, ""
    repair = f"{build_command(bundle.path)} packs them again"
    try:
        sets, version = read_engine_sets(bundle.path), packed_version(cpuinfo)
    except (BundleError, EngineError) as error:
        return None, f"packed weights are not used: {error}"
    fitting = [found for found in sets if found.version == version]
    if not fitting:
        names = ", ".join(found.version for found in sets)
        here = f"this is {version}"
        return None, f"packed weights are for {names} and {here}, so they are not used; {repair}" if sets else ""
    found, folder = fitting[0], bundle.path / ENGINES / fitting[0].folder
    sizes = {entry.part: (folder / entry.file, entry.size) for entry in found.files}
    is_there = sizes.keys() == {PART, WEIGHTS} and all(_size(path) == size for path, size in sizes.values())
    if found.manifest_digest != manifest_digest(bundle.manifest) or not is_there:
        return None, f"packed weights are damaged, or of another bundle, and are not used; {repair}"
    return sizes[PART][0], ""


def pack(bundle: Bundle, force: bool = False) -> tuple[EngineSet, bool]:
    """Write the packed decoder into the bundle's `engines/`, and return the set, and whether it was there already.

    Raises:
        EngineError: too little disk, or onnxruntime cannot write it.
        UsageError: another build is at work in this bundle.
    """
    manifest = bundle.manifest
    wanted = EngineSet(
        schema_version=ENGINE_SET_SCHEMA,
        backend=ONNXRUNTIME.name,
        version=packed_version(),
        compute_capabilities=(),
        precision=manifest.engine.precision,
        manifest_digest=manifest_digest(manifest),
        files=(),
    )
    staging = Staging(bundle.path, wanted, (PART, WEIGHTS))
    with termination_as_exit(), engine_staging(staging):
        if not force and (whole := staging.whole()) is not None:
            return whole, True
        _check_room(bundle)
        staging.take_over(anew=True)
        try:
            begun = time.monotonic()
            _write(bundle.file(manifest.graphs[PART].file), staging.path)
            seconds = time.monotonic() - begun
            engines = staging.write_index({part: _entry(staging.path, part, seconds) for part in staging.parts})
        except BaseException:
            remove(staging.path)  # half of it is of no use to the next try
            raise
        staging.publish()
    return engines, False


def packed_options(options: Any) -> Any:
    """Return session options for opening a packed graph, made of those for any other."""
    import onnxruntime

    # It is optimised already; once more would join nodes whose packed weights go by the names they have.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def writing_options(folder: Path) -> Any:
    """Return session options for a session that writes the packed graph, optimised, and its weights into a folder."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / _file(PART))
    keep_products_whole(options)  # what is written is opened without being rearranged
    for key, value in (
        ("optimized_model_external_initializers_file_name", _file(WEIGHTS)),
        ("optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{key}", value)
    return options


def _write(graph: Path, folder: Path) -> None:
    """Let onnxruntime write a graph, optimised, with packed weights."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(str(graph), writing_options(folder), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(f"onnxruntime cannot pack {graph.name}: {error}") from error


def _check_room(bundle: Bundle) -> None:
    """Raise EngineError unless the disk has room for the decoder's weights in both orders."""
    needed = round(
        DISK_FACTOR * sum(entry.size for entry in bundle.manifest.files if entry.path == f"weights/{PART}.bin")
    )
    free = shutil.disk_usage(bundle.path).free
    if free < needed:
        raise EngineError(
            f"too little disk to pack the decoder's weights: about {size_text(needed)} are needed, and "
            f"{size_text(free)} are free at {bundle.path}. Nothing was started: free some, or run the bundle as it is"
        )


def _entry(folder: Path, part: str, seconds: float) -> EngineFile:
    file = folder / _file(part)
    return EngineFile(part, file.name, file.stat().st_size, sha256_of_file(file), seconds)


def _file(part: str) -> str:
    return f"{part}.engine"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
