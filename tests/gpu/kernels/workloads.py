"""Launches of a clip's size to be timed, and what they move and compute at least; numbers are noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kernels import launches
from kernels.driver import DeviceArray
from kernels.images import Images
from kernels.sizes import Sizes, kept_groups_of, scores_of, vision_flags_of


PRECISION = "float16"


class Room(Protocol):
    """Where arrays are made."""

    def noise(self, shape: Sequence[int], kind: str) -> DeviceArray: ...

    def empty(self, shape: Sequence[int], kind: str) -> DeviceArray: ...

    def put(self, array: np.ndarray, kind: str) -> DeviceArray: ...


@dataclass(frozen=True)
class Workload:
    """One launch."""

    launch: Callable[..., launches.Launch]
    inputs: tuple[DeviceArray, ...]
    outputs: tuple[DeviceArray, ...]
    attributes: dict[str, int] = field(default_factory=dict)
    flops: int = 0  # 0 where bytes are what takes the time

    def launcher(self, images: Images) -> launches.Launch:
        return self.launch(images, self.inputs, self.outputs, **self.attributes)

    @property
    def nbytes(self) -> int:
        """Bytes that must be moved: each input read once, each output written once."""
        return sum(array.nbytes for array in (*self.inputs, *self.outputs))


def group_pool(size: Sizes, frames: int, room: Room) -> Workload:
    query = room.noise((frames, size.groups, size.width), PRECISION)
    key, value = (room.noise((frames, size.patches, size.width), PRECISION) for _ in range(2))
    pooled = room.empty(query.shape, PRECISION)
    attributes = {"heads": size.heads, **size.attributes}
    return Workload(launches.group_pool, (query, key, value), (pooled,), attributes)


def group_score(size: Sizes, frames: int, room: Room) -> Workload:
    hidden = room.noise((frames, size.patches, size.width), PRECISION)
    previous = room.noise((size.groups, size.pool**2 * size.width), "float32")
    scores, last = room.empty((frames, size.groups), "float32"), room.empty(previous.shape, "float32")
    return Workload(launches.group_score, (hidden, previous), (scores, last), size.attributes)


def select_groups(size: Sizes, frames: int, room: Room) -> Workload:
    scores = scores_of(size, frames)
    kept = int(kept_groups_of(size, frames).sum())
    outputs = (room.empty((frames, size.groups), "bool"), room.empty((kept,), "int64"))
    outputs += (room.empty((frames + 1,), "int64"),)
    return Workload(launches.select_groups, (room.put(scores, "float32"), room.empty((kept,), "int64")), outputs)


def pack_tokens(size: Sizes, frames: int, room: Room) -> Workload:
    order = np.flatnonzero(kept_groups_of(size, frames))
    hidden = room.noise((frames, size.patches, size.width), PRECISION)
    packed = room.empty((len(order) * size.pool**2, size.width), PRECISION)
    return Workload(launches.pack_tokens, (hidden, room.put(order, "int64")), (packed,), size.attributes)


def ragged_attention(size: Sizes, frames: int, room: Room) -> Workload:
    lengths = kept_groups_of(size, frames).sum(axis=1) * size.pool**2
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    query, key, value = (room.noise((int(bounds[-1]), size.width), PRECISION) for _ in range(3))
    output = room.empty(query.shape, PRECISION)
    inputs = (query, key, value, room.put(bounds, "int64"), room.put(np.arange(lengths.max()), "int64"))
    flops = 4 * size.width * int((lengths.astype(np.int64) ** 2).sum())
    return Workload(launches.ragged_attention, inputs, (output,), {"heads": size.heads}, flops)


def vision_prefix_attention(size: Sizes, frames: int, room: Room, new: int | None = None) -> Workload:
    """Return the work of reading a prompt about a clip, or of `new` tokens behind one."""
    flags = vision_flags_of(size, frames)
    total = len(flags)
    new = total if new is None else new
    query = room.noise((1, size.decoder_heads, new, size.head_dim), PRECISION)
    key, value = (room.noise((1, size.kv_heads, total, size.head_dim), PRECISION) for _ in range(2))
    output = room.empty(query.shape, PRECISION)
    places, rows = np.arange(total), np.zeros(total)
    numbers = [room.put(array, "int64") for array in (places[total - new :], places)]
    numbers += [room.put(flags, "bool"), room.put(rows[total - new :], "int64"), room.put(rows, "int64")]
    later = np.cumsum(flags[::-1])[::-1] - flags  # vision tokens behind each, which a vision token sees as well
    seen = int((places + 1 + later * flags)[total - new :].sum())
    flops = 4 * size.decoder_heads * size.head_dim * seen
    return Workload(launches.vision_prefix_attention, (query, key, value, *numbers), (output,), flops=flops)


def decode_step(size: Sizes, frames: int, room: Room) -> Workload:
    return vision_prefix_attention(size, frames, room, new=1)


WORKLOADS = {
    "group_pool": {"pool": group_pool},
    "group_score": {"score": group_score},
    "select_groups": {"select": select_groups},
    "pack_tokens": {"pack": pack_tokens},
    "ragged_attention": {"attention": ragged_attention},
    "vision_prefix_attention": {"prompt": vision_prefix_attention, "step": decode_step},
}
"""Operator -> what of it is timed."""
