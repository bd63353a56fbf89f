"""Change every entry of a bundle's manifest in several ways, seal it again, and use the bundle.

A program, since it forks, and does so before anything has started a thread: `python -m reference.mutated BUNDLE N`
tries one change in N, and prints counts of what came of it and every case that ended in anything but an answer or a
BundleError.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime import load
from stts_runtime.bundle.check import check_parts
from stts_runtime.bundle.digest import sealed
from stts_runtime.bundle.open import MANIFEST, open_bundle
from stts_runtime.errors import BundleError, LimitError


MISSING = object()
VALUES = (
    MISSING,
    None,
    -1,
    0,
    1,
    3,
    1 << 20,
    10**30,
    0.5,
    1e308,
    True,
    "",
    "x",
    "/dev/zero",
    "\ud800",
    "S",
    [],
    {},
    ["S"],
)
FREE = ("estimate", "notes", "memory", "target", "name", "created_by", "files", "model")
"""What no answer depends on: of what passes there, one in so many is asked."""
ONE_IN = 40
SECONDS, BYTES = 60, 8 << 30


def mutations(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Yield where to put what: values of other kinds and ranges, and lists that lose, repeat or turn their items."""
    if path:
        yield from ((path, value) for value in VALUES if type(value) is not type(data) or value != data)
    if isinstance(data, dict):
        for key in data:
            yield from mutations(data[key], (*path, key))
    elif isinstance(data, list):
        for items in (data[1:], data[:-1], data * 2, data[::-1]):
            if items != data:
                yield path, items
        for index, item in enumerate(data):
            yield from mutations(item, (*path, index))


def put(data: Any, path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """Return a copy of `data` with `value` at `path`."""
    changed = copy.deepcopy(data)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


def used(bundle: Path) -> str:
    """Return what comes of a question, asked in a fork with limits."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        signal.alarm(SECONDS)
        try:
            with load(bundle) as session:
                session.open(prune=0)
                session.open()
                conversation = session.look(np.random.default_rng(0).integers(0, 255, (2, 126, 126, 3), np.uint8))
                if session.manifest.tokenizer:  # a bundle may be without one, and says so when it is asked
                    conversation.ask("What?", max_tokens=2)
            said = "answered"
        except BundleError:
            said = "BundleError"
        except LimitError:  # a smaller limit is one, and the clip is beyond it
            said = "answered"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, ascii(said).encode()[:1000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:  # noqa: PTH123 (a descriptor)
        said = stream.read().decode().strip("'\"")
    status = os.waitpid(child, 0)[1]
    return said or f"died with {status}"


def main(bundle: Path, every: int) -> None:
    file = bundle / MANIFEST
    whole = json.loads(file.read_bytes())
    del whole["digest"]
    counts: Counter[str] = Counter()
    wrong = []
    passed = 0
    for path, value in itertools.islice(mutations(whole), 0, None, every):
        file.write_bytes(sealed(put(whole, path, value)))
        try:
            check_parts(open_bundle(bundle).manifest)
            passed += 1
            said = "opened" if path[0] in FREE and passed % ONE_IN else used(bundle)
        except BundleError:
            said = "BundleError"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        counts[said if said in ("answered", "BundleError", "opened") else "wrong"] += 1
        if said not in ("answered", "BundleError", "opened"):
            wrong.append(f"{'.'.join(map(str, path))} = {ascii(value)[:40]}: {ascii(said)[:200]}")
    sys.stdout.write(json.dumps({"counts": counts, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
