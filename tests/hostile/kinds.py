"""What is spoilt: each kind makes, from a seed, one case that must be accepted or refused by an error of ours.

Nothing here opens an engine or decodes a frame before the fork: sessions and thread pools do not survive it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from hostile.mutate import ODD, spoil, spoil_bytes, spoil_text

from stts_runtime.bundle.digest import sealed
from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.bundle.open import MANIFEST, open_bundle
from stts_runtime.clip.video import clip_from_frames, read_video
from stts_runtime.errors import BundleError, SttsError
from stts_runtime.session import load


FRAMES = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
SAMPLING = FrameSampling("uniform_last_frame", 8, 2.0)
MARKS = ("<|im_start|>", "<|im_end|>", "<im_patch>", "<frame_start>", "<frame_end>", "{video}", "<|endoftext|>")


@dataclass(frozen=True)
class Ground:
    """What cases start from.

    Attributes:
        bundle: a whole toy bundle.
        checkpoint: its checkpoint's folder.
        recipe: its recipe's file.
        scratch: an empty folder for what cases write; each uses one of its own.
    """

    bundle: Path
    checkpoint: Path
    recipe: Path
    scratch: Path


Case = Callable[[], object]
Kind = Callable[[Ground, Random], Case]


def manifest(ground: Ground, random: Random) -> Case:
    """A manifest that says something else and is sealed again: all engines are opened, and a question is asked."""
    data = json.loads((ground.bundle / MANIFEST).read_text())
    data.pop("digest", None)
    spoilt = spoil(data, random, random.choice((1, 1, 1, 2, 3)))

    def case() -> None:
        root = _linked(ground.bundle, ground.scratch / "bundle")
        (root / MANIFEST).unlink()
        (root / MANIFEST).write_bytes(sealed(spoilt) if isinstance(spoilt, dict) else json.dumps(spoilt).encode())
        with load(root) as session:
            for part in session.manifest.graphs:
                session.engine(part)
            session.ask(FRAMES, "What happens?", max_tokens=2)

    return case


def bundle_bytes(ground: Ground, random: Random) -> Case:
    """A bundle whose bytes are not those it was built with: reading all of it must find out."""
    files = sorted(path.relative_to(ground.bundle) for path in ground.bundle.rglob("*") if path.is_file())
    name, seed = random.choice(files), random.random()

    def case() -> None:
        root = _linked(ground.bundle, ground.scratch / "bundle")
        content = (root / name).read_bytes()
        spoilt = spoil_bytes(content, Random(seed))
        (root / name).unlink()
        (root / name).write_bytes(spoilt)
        try:
            open_bundle(root, check=True)
        except BundleError:
            return
        assert spoilt == content, f"{name} was changed, and nobody saw it"

    return case


def recipe(ground: Ground, random: Random) -> Case:
    """A model's recipe with other lines."""
    from stts_export.recipe.read import read_model_recipe

    text = spoil_text(ground.recipe.read_text(), random, random.choice((1, 1, 2, 4)))

    def case() -> None:
        path = ground.scratch / "spoilt.toml"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        read_model_recipe(str(path))

    return case


def checkpoint(ground: Ground, random: Random) -> Case:
    """A checkpoint whose headers, configuration or tokenizer say something else; all weights are read."""
    from stts_export.checkpoint.open import open_checkpoint
    from stts_export.recipe.read import read_model_recipe

    name = random.choice(sorted(path.name for path in ground.checkpoint.iterdir()))
    content = (ground.checkpoint / name).read_bytes()
    if name.endswith(".json") and random.random() < 0.7:
        spoilt = json.dumps(spoil(json.loads(content), random)).encode()
    elif name.endswith(".safetensors"):
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        if random.random() < 0.6:
            text = json.dumps(spoil(header, random)).encode()
            spoilt = len(text).to_bytes(8, "little") + text + content[8 + size :]
        else:
            spoilt = spoil_bytes(content[: 8 + size], random) + content[8 + size :]
    else:
        spoilt = spoil_bytes(content, random)

    def case() -> None:
        root = _linked(ground.checkpoint, ground.scratch / "checkpoint")
        (root / name).unlink()
        (root / name).write_bytes(spoilt)
        opened = open_checkpoint(root, read_model_recipe(str(ground.recipe)).config)
        for tensor in opened.tensors.values():
            tensor.read()

    return case


@cache
def clips() -> tuple[tuple[str, bytes], ...]:
    """Return small films of several kinds, made in a fork so that no decoder was open here."""
    import pickle

    reader, writer = os.pipe()
    if os.fork() == 0:
        from tempfile import TemporaryDirectory

        from reference.numbered_video import write_video

        made = []
        with TemporaryDirectory() as folder:
            for name, codec, options in (
                ("a.mp4", "libx264", {"g": "10", "bf": "2"}),
                ("b.ts", "libx264", {"g": "10"}),
                ("c.mkv", "mpeg4", {}),
                ("d.avi", "mjpeg", {}),
                ("e.webm", "libvpx-vp9", {"g": "10"}),
                ("f.gif", "gif", {}),
            ):
                pixels = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
                path = write_video(Path(folder) / name, 30, codec=codec, options=options, pixels=pixels)
                made.append((name, path.read_bytes()))
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(tuple(made), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pickle.load(pipe)
    os.wait()
    return found


def clip(ground: Ground, random: Random) -> Case:
    """A film whose bytes were spoilt."""
    name, content = random.choice(clips())
    spoilt = spoil_bytes(content, random, random.choice((1, 1, 2, 5, 30)))
    frames = random.choice((None, None, 1, 5))

    def case() -> None:
        path = ground.scratch / name
        path.write_bytes(spoilt)
        found = read_video(path, SAMPLING, frames=frames, size=42)
        assert found.frames.shape == (len(found.indices), 42, 42, 3)
        assert np.isfinite(found.timestamps).all()
        assert (np.diff(found.timestamps) > 0).all()

    return case


def array(ground: Ground, random: Random) -> Case:
    """An array of frames of any kind, or something that is none."""
    shape = [random.choice((0, 1, 2, 3, 4, 48, 5000)) for _ in range(random.choice((0, 1, 3, 4, 4, 4, 4, 5)))]
    if len(shape) == 4 and random.random() < 0.7:
        shape[1:] = [random.choice((1, 2, 48)), random.choice((1, 3, 64)), 3]
    dtype = random.choice((*["uint8"] * 3, "int8", "float32", "float64", "bool", "complex64", "object", "U3"))
    fps = random.choice((None, None, 0, -1, 1e-9, 30, 1e12, float("nan"), float("inf"), "30", True, [1]))
    big = random.random() < 0.1

    def case() -> None:
        frames: object = np.broadcast_to(np.zeros((), dtype), (10**9, 4, 4, 3) if big else shape)
        if random.random() < 0.1:
            frames = random.choice((None, "clip", [1], [[[[1]]]], 3.0, b"", {}))
        clip_from_frames(frames, SAMPLING, fps=fps)  # type: ignore[arg-type]

    return case


def question(ground: Ground, random: Random) -> Case:
    """A question of any text: it is answered, and never becomes a token that the template uses."""
    pieces = [
        lambda: "".join(chr(random.choice((random.randrange(32, 127), random.randrange(0x110000)))) for _ in range(20)),
        lambda: random.choice(MARKS),
        lambda: "x" * random.choice((0, 1, 1000, 100000)),
        lambda: "\udcf9 \ud800",
        lambda: random.choice((" ", "\n", "\t", "\u200d", "e\u0301", "What moves?")),
    ]
    text: object = "".join(random.choice(pieces)() for _ in range(random.choice((0, 1, 1, 2, 5))))
    if random.random() < 0.1:
        text = random.choice(ODD)

    def case() -> None:
        with load(ground.bundle) as session:
            session.ask(FRAMES, text, max_tokens=2)  # type: ignore[call-overload]

    return case


def arguments(ground: Ground, random: Random) -> Case:
    """Settings of any type and size."""
    names = ("prune", "fps", "max_tokens", "temperature", "top_p", "seed", "frames", "streem")
    values = (*ODD, float("nan"), float("inf"), -0.0, b"1", 1j, np.float32(0.3), np.int64(2), object())
    given = {random.choice(names): random.choice(values) for _ in range(random.choice((1, 1, 2, 3)))}

    def case() -> None:
        with load(ground.bundle) as session:
            session.ask(FRAMES, "What happens?", **{"max_tokens": 2, **given})  # type: ignore[call-overload]

    return case


def path_argument(ground: Ground, random: Random) -> Case:
    """A path that leads to anything but what is wanted there."""
    kind = random.choice(("missing", "folder", "pipe", "empty", "text", "loop", "zero", "long", "other"))

    def case() -> None:
        path: object = ground.scratch / "it"
        assert isinstance(path, Path)
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind in ("empty", "text"):
            path.write_text("" if kind == "empty" else "no film\n" * 99)
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "zero":
            path = "a\0b"
        elif kind == "long":
            path = "x" * 5000
        elif kind == "other":
            path = random.choice((None, 3, 2.5, [], {}, b"clip.mp4"))
        for use in (load, open_bundle, lambda what: read_video(what, SAMPLING)):
            try:
                use(path)  # type: ignore[arg-type]
            except SttsError:
                continue
            raise AssertionError(f"{kind} was taken for what it is not")

    return case


KINDS: dict[str, tuple[Kind, int]] = {
    "manifest": (manifest, 30),
    "bundle_bytes": (bundle_bytes, 8),
    "recipe": (recipe, 12),
    "checkpoint": (checkpoint, 12),
    "clip": (clip, 18),
    "array": (array, 6),
    "question": (question, 6),
    "arguments": (arguments, 6),
    "path_argument": (path_argument, 2),
}
"""Kind -> how to make a case, and its share in a hundred."""


def _linked(source: Path, target: Path) -> Path:
    """Return a folder that has the files of another, as hard links: what is to change is removed first."""
    shutil.copytree(source, target, copy_function=os.link)
    return target
