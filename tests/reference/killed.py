"""Put something in the place of something else, killed after each file-system call in turn, and judge what is left.

A program, since it forks, and does so before anything has started a thread: `python -m reference.killed NAME FOLDER`
runs one of `SWAPS` below FOLDER and prints how often it was killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from reference.engine_bundle import PARTS, write_engine_bundle, write_engine_set
from reference.toy_manifest import TOY_MANIFEST
from stts_export.bundle.write import write_manifest, writing_bundle
from stts_runtime.bundle import swap
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
from stts_runtime.bundle.open import open_bundle
from stts_runtime.errors import BundleError, UsageError


CALLS = ("open", "os.", "shutil.")
"""How the names begin of what Python tells an audit hook of file-system calls, before it makes them."""

OLD, NEW, NEXT = "old", "new", "next"


@dataclass(frozen=True)
class Swap:
    """Something that is put in the place of an older one.

    Attributes:
        put: puts one of that content below a folder.
        held: returns the content that lies there and is whole, None where there is none; raises where half is.
        visit: does what finishes the work of a process that was killed, and puts nothing.
        place: where it lies below the folder, as a pattern.
        begins: whether an older one is there at first.
        is_atomic: whether one of the two is there at every moment.
    """

    put: Callable[[Path, str], None]
    held: Callable[[Path], str | None]
    visit: Callable[[Path], object]
    place: str
    begins: bool = True
    is_atomic: bool = True


def put_bundle(folder: Path, content: str) -> None:
    with writing_bundle(folder / "toy.stts", 100, overwrite=True) as staging:
        (staging / "weights").mkdir()
        (staging / "weights" / "decoder.bin").write_text(content)
        (staging / "decoder.onnx").write_text(content)
        (staging / "tokenizer.json").write_text("{}")
        write_manifest(staging, TOY_MANIFEST)


def held_bundle(folder: Path) -> str | None:
    if not (folder / "toy.stts").exists():
        return None
    bundle = open_bundle(folder / "toy.stts", check=True)
    contents = {bundle.file(name).read_text() for name in ("decoder.onnx", "weights/decoder.bin")}
    assert len(contents) == 1
    return contents.pop()


def visit_bundle(folder: Path) -> None:
    with contextlib.suppress(UsageError, BundleError), writing_bundle(folder / "toy.stts", 100):
        raise BundleError("this build fails")


def put_engines(folder: Path, content: str) -> None:
    if not (folder / "small.stts").exists():
        write_engine_bundle(folder / "small.stts")
    bundle = open_bundle(folder / "small.stts")
    if content == OLD:
        write_engine_set(bundle.path, bundle.manifest)
        return
    staging = staging_of(folder)
    with engine_staging(staging):
        finished = staging.take_over(anew=True)
        for part in PARTS:
            file = staging.path / f"{part}.engine"
            file.write_text(content)
            finished[part] = EngineFile(part, file.name, file.stat().st_size, sha256_of_file(file))
        staging.write_index(finished)
        staging.publish()


def staging_of(folder: Path) -> Staging:
    bundle = open_bundle(folder / "small.stts")
    digest = manifest_digest(bundle.manifest)
    wanted = EngineSet(ENGINE_SET_SCHEMA, "tensorrt_rtx", "1.7.1", (86, 120), "float16", digest, ())
    return Staging(bundle.path, wanted, PARTS)


def held_engines(folder: Path) -> str | None:
    bundle = open_bundle(folder / "small.stts", check=True)
    if not (sets := read_engine_sets(bundle.path)):
        return None
    contents = {(bundle.path / ENGINES / sets[0].folder / file.file).read_text() for file in sets[0].files}
    return OLD if contents == {f"engine of {part}" for part in PARTS} else contents.pop()


def visit_engines(folder: Path) -> None:
    with engine_staging(staging_of(folder)):
        pass


def put_state(folder: Path, content: str) -> None:
    from stts_export.train.state import State, read_state, write_state

    read_state(folder)
    write_state(folder, State((OLD, NEW, NEXT).index(content), {}, {}, {}, 0.0))


def held_state(folder: Path) -> str | None:
    from stts_export.train.state import read_state

    state = read_state(folder)
    return None if state is None else (OLD, NEW, NEXT)[state.step]


BUNDLE = Swap(put_bundle, held_bundle, visit_bundle, "toy.stts")
ENGINE_SET = Swap(put_engines, held_engines, visit_engines, "small.stts/engines/tensorrt*")
STATE = Swap(put_state, held_state, held_state, "state")
SWAPS = {
    "first bundle": replace(BUNDLE, begins=False),
    "bundle": BUNDLE,
    "bundle in two steps": replace(BUNDLE, is_atomic=False),
    "engines": ENGINE_SET,
    "state in two steps": replace(STATE, is_atomic=False),
}


def killed_at(call: int, act: Callable[[], None]) -> bool:
    """Run `act` in a fork that dies before its file-system call number `call`; return whether it came that far."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: object) -> None:
            nonlocal seen
            if event.startswith(CALLS):
                seen += 1
                if seen == call + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            act()
        finally:
            os._exit(0 if sys.exception() is None else 1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def is_kept(swap: Swap, folder: Path, call: int, taken_away: bool) -> bool:
    """Kill one `put`, judge what is left, put the next one, and return whether it was killed at all."""
    folder.mkdir()
    precious = folder / "precious" / "file"
    precious.parent.mkdir()
    precious.write_text("dear")
    if swap.begins:
        swap.put(folder, OLD)
    killed = killed_at(call, lambda: swap.put(folder, NEW))
    if swap.is_atomic:
        assert swap.held(folder) in ((OLD, NEW) if swap.begins else (None, NEW)), call
    if taken_away:  # the user removes what is there: what a killed process has half-removed must not come in its place
        for place in folder.glob(swap.place):
            shutil.rmtree(place)
        swap.visit(folder)
        assert swap.held(folder) in (None, OLD, NEW), call
    swap.put(folder, NEXT)
    assert swap.held(folder) == NEXT, call
    assert precious.read_text() == "dear"
    assert sorted(path.name for path in folder.iterdir()) == sorted(("precious", swap.place.split("/")[0])), call
    shutil.rmtree(folder)
    return killed


def main(name: str, folder: Path) -> None:
    chosen = SWAPS[name]
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # a process dies here, not the machine
    if not chosen.is_atomic:
        swap.exchange = lambda one, other: False  # a file system where two paths cannot change places
    counts = []
    for taken_away in (False, True):
        call = 0
        while is_kept(chosen, folder / "work", call, taken_away):
            call += 1
        counts.append(call)
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
