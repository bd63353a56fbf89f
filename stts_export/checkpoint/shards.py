"""Safetensors files on disk: one file or shards with an index, checked whole by their headers, read by the row."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from stts_export.errors import CheckpointError
from stts_runtime.foreign import foreign_errors


INDEX_SUFFIX = ".safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".distcp")
_NUMBERED = re.compile(r".+-\d+-of-\d+\.safetensors")
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file, known by its header only."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype_name: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype.

        Raises:
            CheckpointError: it is not float32, float16 or bfloat16.
        """
        if self.dtype_name not in _DTYPES:
            raise CheckpointError(
                f"{self.file}: tensor {self.name} is stored as {self.dtype_name}; wanted one of {', '.join(_DTYPES)}. "
                "Quantised or integer weights cannot be exported: save the checkpoint in bfloat16 or float32."
            )
        return _DTYPES[self.dtype_name]

    def load(self, rows: tuple[int, int] | None = None) -> torch.Tensor:
        """Return the tensor, or its rows `rows[0]` to `rows[1]`, in its stored dtype.

        Raises:
            CheckpointError: the file cannot be read any more.
        """
        handle = _handle(self.file)
        with _reading(self.file):
            return handle.get_tensor(self.name) if rows is None else handle.get_slice(self.name)[rows[0] : rows[1]]


def open_shards(path: Path) -> dict[str, Stored]:
    """Return stored name -> tensor of every safetensors file that makes up the checkpoint at `path`.

    Only headers are read; each file's length is checked against its header. Where a tensor lies in several shards, the
    index says which of them counts.

    Args:
        path: a directory as written by save_pretrained, or one .safetensors file.

    Raises:
        CheckpointError: nothing there, a shard missing, truncated or not in the index, several indices, or weights in
            pickle form.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory. Give the checkpoint's directory.")
    if path.is_file():
        return _one_file(path)
    indices = sorted(path.glob(f"*{INDEX_SUFFIX}"))
    if len(indices) > 1:
        raise CheckpointError(
            f"{path}: {len(indices)} indices: {', '.join(file.name for file in indices)}. Each is of weights of its "
            "own: keep the one that is meant, with its shards, and move the others away."
        )
    if indices:
        return _indexed(indices[0])
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise _nothing_to_read(path)
    numbered = [file.name for file in files if _NUMBERED.fullmatch(file.name)]
    if numbered:
        raise CheckpointError(
            f"{path}: {len(numbered)} shards ({numbered[0]}, ...) but no *{INDEX_SUFFIX}. "
            "Download the index that belongs to them, so that missing shards can be noticed."
        )
    if len(files) > 1:
        raise CheckpointError(
            f"{path}: {len(files)} safetensors files and no index: {', '.join(file.name for file in files)}. "
            "Point --checkpoint at the one file that holds the model."
        )
    return _one_file(files[0])


def stored_names(path: Path) -> set[str]:
    """Return the names of all tensors of the checkpoint at `path`: an index is believed, and its shards may be absent.

    Raises:
        CheckpointError: as `open_shards`, but for shards that an index names.
    """
    indices = list(path.glob(f"*{INDEX_SUFFIX}"))
    return set(weight_map(indices[0])) if len(indices) == 1 else set(open_shards(path))


def _one_file(file: Path) -> dict[str, Stored]:
    if file.suffix in PICKLES:
        raise _pickled(file)
    handle = _handle(file)
    tensors = {}
    with _reading(file):
        for name in handle.keys():  # noqa: SIM118  a safetensors handle is no mapping
            header = handle.get_slice(name)
            tensors[name] = Stored(file, name, tuple(header.get_shape()), header.get_dtype())
    return tensors


def _indexed(index: Path) -> dict[str, Stored]:
    where = weight_map(index)
    shards = sorted(set(where.values()))
    # os.path's own question bears names that no file can have; a path's raises
    missing = [shard for shard in shards if not os.path.isfile(index.parent / shard)]  # noqa: PTH113
    if missing:
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing[:10])}. "
            f"Download them, they are listed in {index.name}."
        )
    strays = [f.name for f in sorted(index.parent.glob("*.safetensors")) if f.name not in shards]
    strays = [stray for stray in strays if _NUMBERED.fullmatch(stray)]
    if strays:
        raise CheckpointError(
            f"{index.parent}: shard {strays[0]} is not in {index.name}. Either the index is of another version of the "
            "checkpoint (download it again) or the shard is a leftover (remove it)."
        )
    tensors: dict[str, Stored] = {}
    for shard in shards:
        for name, tensor in _one_file(index.parent / shard).items():
            if where.get(name, shard) != shard:
                continue  # a stale copy
            if name in tensors:
                raise CheckpointError(
                    f"{index.parent}: tensor {name} lies in {tensors[name].file.name} and in {shard}, and {index.name} "
                    "does not say which counts. Download the checkpoint again."
                )
            tensors[name] = tensor
    for name, shard in where.items():
        if name not in tensors:
            raise CheckpointError(
                f"{index.parent / shard}: tensor {name} is missing, though {index.name} says it is there. "
                "Download the shard again."
            )
    return tensors


def weight_map(index: Path) -> dict[str, str]:
    """Return, by the name of a tensor, the shard that an index says it lies in.

    Raises:
        CheckpointError: it is no index.
    """
    try:
        where = json.loads(index.read_text())["weight_map"]
        wrong = [shard for shard in where.values() if Path(shard).name != shard]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a file name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: not a safetensors index ({error!r}). Download it again.") from error
    return where


@lru_cache(maxsize=64)
def _opened(file: Path, size: int, changed: int) -> Any:
    """Return an open handle; size and time are in the key so that a rewritten file is opened anew."""
    return safe_open(file, framework="pt")


def _handle(file: Path) -> Any:
    with _reading(file):
        status = file.stat()
        return _opened(file, status.st_size, status.st_mtime_ns)


def _reading(file: Path) -> foreign_errors:
    return foreign_errors(
        lambda reason: CheckpointError(
            f"{file}: not a whole safetensors file ({reason}), {file.stat().st_size if file.exists() else 0} bytes. "
            "It is truncated or damaged: download it again."
        )
    )


def _nothing_to_read(path: Path) -> CheckpointError:
    pickles = [file for file in sorted(path.iterdir()) if file.suffix in PICKLES]
    if pickles:
        return _pickled(pickles[0])
    return CheckpointError(f"{path}: no *.safetensors file. Give the directory that holds the checkpoint's weights.")


def _pickled(file: Path) -> CheckpointError:
    if file.suffix == ".distcp":
        return CheckpointError(
            f"{file}: a distributed torch checkpoint, which is read by unpickling and is not opened here. Convert it "
            f"once, where you trust it:\n"
            f"  python -m torch.distributed.checkpoint.format_utils dcp_to_torch {file.parent} model.pt\n"
            "and then model.pt to safetensors, as the message on model.pt says."
        )
    return CheckpointError(
        f"{file}: weights in pickle form are not opened, since reading them can run code. "
        "Convert them once, where you trust them:\n"
        "  import torch\n"
        "  from safetensors.torch import save_file\n"
        f'  state = torch.load("{file.name}", map_location="cpu", weights_only=True)\n'
        '  state = state.get("model", state)\n'
        '  save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, "model.safetensors")'
    )
